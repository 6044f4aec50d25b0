// The log of a thread and its work, as they are now.
#pragma once

#include "python.h"

namespace skeleton {

// The log of this thread, borrowed; null where it has none.
PyObject* current_log();

bool is_true(PyObject* number);

// A lazy array and its Value, which is where the array keeps its handle.
PyObject* make_lazy(PyTypeObject* kind, PyObject* log, Py_ssize_t number, PyObject* aval);

// A look at a log. To make objects may have Python collect garbage, and so run code of anybody's: so all that is new is
// made first, then same() says whether the look still holds, and then the lists are changed.
class State {
 public:
  explicit State(PyObject* log)
      : log_(log), work_(Ref::to(g.work.of(log))), calls_(size(g.ops)), values_(size(g.arrays)) {}
  PyObject* work() const { return work_.get(); }
  Py_ssize_t calls() const { return calls_; }
  Py_ssize_t values() const { return values_; }
  bool quick() const { return !is_true(g.busy.of(log_)) && !is_true(g.located.of(work())); }
  bool same() const {
    return !PyErr_Occurred() && !is_true(g.busy.of(log_)) && g.work.of(log_) == work() && size(g.ops) == calls_ &&
           size(g.arrays) == values_;
  }
  bool add_call(PyObject* call) const { return PyList_Append(g.ops.of(work()), call) == 0; }
  bool add_value(PyObject* array, PyObject* aval) const {
    return PyList_Append(g.arrays.of(work()), array) == 0 && PyList_Append(g.avals.of(work()), aval) == 0;
  }

 private:
  Py_ssize_t size(const Slot& list) const { return PyList_GET_SIZE(list.of(work())); }
  PyObject* log_;
  Ref work_;
  Py_ssize_t calls_, values_;
};

}  // namespace skeleton
