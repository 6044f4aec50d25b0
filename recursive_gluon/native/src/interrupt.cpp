#include "interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include <atomic>
#include <mutex>

#include "common.h"

namespace rg {
namespace {

using Plain = void (*)(int);
using Informed = void (*)(int, siginfo_t*, void*);

std::atomic<uint32_t> g_signals{0};
// The handler that was there, one of the two. They stay when it is back in its place: ours may still run somewhere.
std::atomic<Plain> g_plain{nullptr};
std::atomic<Informed> g_informed{nullptr};

std::mutex g_mutex;
int g_watches = 0;
bool g_installed = false;
struct sigaction g_before;

void on_signal(int number, siginfo_t* info, void* context) {
  g_signals.fetch_add(1);
  if (Informed handler = g_informed.load()) handler(number, info, context);
  else if (Plain plain = g_plain.load()) plain(number);
}

void install() {
  if (sigaction(SIGINT, nullptr, &g_before) != 0) return;
  bool informed = (g_before.sa_flags & SA_SIGINFO) != 0;
  // Without a handler the signal ends the process or is ignored; it is left to do so.
  if (!informed && (g_before.sa_handler == SIG_DFL || g_before.sa_handler == SIG_IGN)) return;
  g_informed.store(informed ? g_before.sa_sigaction : nullptr);
  g_plain.store(informed ? nullptr : g_before.sa_handler);
  struct sigaction ours = g_before;
  ours.sa_sigaction = on_signal;
  ours.sa_flags |= SA_SIGINFO;
  g_installed = sigaction(SIGINT, &ours, nullptr) == 0;
}

void restore() {
  struct sigaction now;
  bool ours = g_installed && sigaction(SIGINT, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
              now.sa_sigaction == on_signal;  // else somebody set another one meanwhile
  if (ours) sigaction(SIGINT, &g_before, nullptr);
  g_installed = false;
}

bool on_main_thread() {
#ifdef __linux__
  return static_cast<pid_t>(syscall(SYS_gettid)) == getpid();
#else
  return pthread_main_np() != 0;
#endif
}

std::atomic<Poll> g_poll{nullptr};
thread_local LongRun* t_long_run = nullptr;

}  // namespace

InterruptWatch::InterruptWatch() : seen_(g_signals.load()) {
  std::lock_guard<std::mutex> guard(g_mutex);
  if (g_watches++ == 0) install();
}

InterruptWatch::~InterruptWatch() {
  std::lock_guard<std::mutex> guard(g_mutex);
  if (--g_watches == 0) restore();
}

bool InterruptWatch::interrupted() {
  uint32_t now = g_signals.load();
  bool since = now != seen_;
  seen_ = now;
  return since;
}

SignalsHeld::SignalsHeld() {
  sigset_t held;
  sigfillset(&held);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&held, fault);
  pthread_sigmask(SIG_BLOCK, &held, &before_);
}
SignalsHeld::~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void SignalsHeld::let_in() {
  sigset_t held;
  pthread_sigmask(SIG_SETMASK, &before_, &held);
  pthread_sigmask(SIG_SETMASK, &held, nullptr);
}

void set_poll(Poll poll) { g_poll.store(poll); }

LongRun::LongRun() : outer_(t_long_run), asked_(std::chrono::steady_clock::now()) {
  if (outer_ != nullptr) return;
  t_long_run = this;
  signals_.emplace();
}

LongRun::~LongRun() {
  if (outer_ == nullptr) t_long_run = nullptr;
}

bool LongRun::interrupted() {
  if (outer_ != nullptr) return outer_->interrupted();
  Poll poll = g_poll.load(std::memory_order_relaxed);
  auto now = std::chrono::steady_clock::now();
  if (poll == nullptr || now - asked_ <= std::chrono::milliseconds(100)) return false;
  asked_ = now;
  if (!watch_ && !on_main_thread()) watch_.emplace();
  signals_->let_in();
  if (watch_ && !watch_->interrupted()) return false;
  int ends = 1;
  poll(&ends);
  return ends != 0;
}

void LongRun::check() {
  if (interrupted()) throw Error(Kind::kInterrupt, "interrupted");
}

}  // namespace rg
