// A call of a RecursiveBlock as an operator of MXNet's whose gradient has a gradient. MXNet makes the gradient of an
// operator X an operator _backward_X; where that has a gradient of its own, autograd.grad(create_graph=True) can be
// followed by backward(). So both are registered, X first: the second registration replaces what the first one made of
// _backward_X. What they compute is a matter of a callback; here are only shapes and types. Why so: docs/design/0006.
#include <mxnet/lib_api.h>

#include <sstream>

using namespace mxnet::ext;  // NOLINT

namespace {

using Attributes = std::unordered_map<std::string, std::string>;
using Shapes = std::vector<std::vector<unsigned int>>;

// what: 0 outputs, 1 their gradient, 2 the gradient's gradient; answers 0 where it succeeded.
using Callback = int (*)(int what, int64_t ticket, void** inputs, int num_inputs, void** outputs, int num_outputs);
Callback g_callback = nullptr;

struct Layout {
  int inputs = 0, outputs = 0;  // of a call; its first input is the ticket
  Shapes shapes;                // of its outputs
  std::vector<int> types;
};

std::vector<int> numbers(const std::string& text, char separator) {
  std::vector<int> found;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, separator);) found.push_back(std::stoi(item));
  return found;
}

Layout layout(const Attributes& attributes) {
  Layout l;
  l.inputs = std::stoi(attributes.at("inputs"));
  l.types = numbers(attributes.at("types"), ',');
  l.outputs = static_cast<int>(l.types.size());
  std::stringstream stream(attributes.at("shapes"));
  for (std::string item; std::getline(stream, item, ';');) {
    std::vector<unsigned int> shape;
    for (int extent : numbers(item, ',')) shape.push_back(static_cast<unsigned int>(extent));
    l.shapes.push_back(shape);
  }
  return l;
}

MXReturnValue run(int what, int ticket_at, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs) {
  std::vector<void*> in, out;
  for (MXTensor& t : *inputs) in.push_back(t.data_ptr);
  for (MXTensor& t : *outputs) out.push_back(t.data_ptr);
  int64_t ticket = *static_cast<int64_t*>(in.at(static_cast<size_t>(ticket_at)));
  if (g_callback == nullptr) return MX_FAIL;
  int failed = g_callback(what, ticket, in.data(), static_cast<int>(in.size()), out.data(), static_cast<int>(out.size()));
  return failed ? MX_FAIL : MX_SUCCESS;
}

// -- a call: (ticket, inputs) -> outputs
MXReturnValue parse(const Attributes& attributes, int* num_inputs, int* num_outputs) {
  Layout l = layout(attributes);
  *num_inputs = l.inputs;
  *num_outputs = l.outputs;
  return MX_SUCCESS;
}

MXReturnValue infer_type(const Attributes& attributes, std::vector<int>*, std::vector<int>* outputs) {
  *outputs = layout(attributes).types;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes& attributes, Shapes*, Shapes* outputs) {
  *outputs = layout(attributes).shapes;
  return MX_SUCCESS;
}

MXReturnValue forward(const Attributes&, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                      const OpResource&) {
  return run(0, 0, inputs, outputs);
}

// -- its gradient: (gradients of outputs, ticket, inputs, outputs) -> gradients of (ticket, inputs)
MXReturnValue parse_gradient(const Attributes& attributes, int* num_inputs, int* num_outputs) {
  Layout l = layout(attributes);
  *num_inputs = l.inputs + 2 * l.outputs;
  *num_outputs = l.inputs;
  return MX_SUCCESS;
}

MXReturnValue infer_gradient_type(const Attributes& attributes, std::vector<int>* inputs, std::vector<int>* outputs) {
  Layout l = layout(attributes);
  for (int j = 0; j < l.outputs; ++j) inputs->at(j) = inputs->at(l.outputs + l.inputs + j) = l.types[j];
  for (int i = 0; i < l.inputs; ++i) outputs->at(i) = inputs->at(l.outputs + i);
  return MX_SUCCESS;
}

MXReturnValue infer_gradient_shape(const Attributes& attributes, Shapes* inputs, Shapes* outputs) {
  Layout l = layout(attributes);
  for (int j = 0; j < l.outputs; ++j) inputs->at(j) = inputs->at(l.outputs + l.inputs + j) = l.shapes[j];
  for (int i = 0; i < l.inputs; ++i) outputs->at(i) = inputs->at(l.outputs + i);
  return MX_SUCCESS;
}

MXReturnValue gradient(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                       const OpResource&) {
  return run(1, layout(attributes).outputs, inputs, outputs);
}

// -- the gradient of that: (gradients of (ticket, inputs), all that the gradient takes, all that it gives)
//    -> gradients of (gradients of outputs, ticket, inputs, outputs)
MXReturnValue second(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                     const OpResource&) {
  Layout l = layout(attributes);
  return run(2, l.inputs + l.outputs, inputs, outputs);
}

}  // namespace

REGISTER_OP(recursive_gluon_call)
    .setForward(forward, "cpu")
    .setBackward(gradient, "cpu")
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape);

REGISTER_OP(_backward_recursive_gluon_call)
    .setForward(gradient, "cpu")
    .setBackward(second, "cpu")
    .setParseAttrs(parse_gradient)
    .setInferType(infer_gradient_type)
    .setInferShape(infer_gradient_shape);

MXReturnValue initialize(int version) { return version >= 10900 && version < 20000 ? MX_SUCCESS : MX_FAIL; }

extern "C" __attribute__((visibility("default"))) void rg_operator_callback(Callback callback) { g_callback = callback; }
