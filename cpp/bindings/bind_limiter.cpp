#include <algorithm>
#include <atomic>
#include <memory>

#include <pybind11/stl.h>

#include "arguments.hpp"
#include "bindings.hpp"
#include "timed_limiter.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

/// A policy that keeps what it comes from.
struct TimedPolicy {
    std::shared_ptr<TimedLimiter> limiter;
    Policy policy;
};

/// A ticket that refunds once, and keeps its policy (and with it the memory it points into) alive.
struct OnceTicket {
    std::shared_ptr<TimedPolicy> policy;
    Ticket ticket;
    std::atomic<bool> is_spent = false;
};

// (allowed, index of the quota reported, remaining, reset_after_ns, retry_after_ns)
PyObject* raw_decision(const Decision& decision) noexcept {
    PyObject* tuple = PyTuple_New(5);
    if (tuple == nullptr) {
        return nullptr;
    }
    const std::array<long long, 4> numbers = {decision.quota, static_cast<long long>(decision.remaining),
                                              decision.reset_after, decision.retry_after};
    PyTuple_SET_ITEM(tuple, 0, PyBool_FromLong(decision.allowed ? 1 : 0));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        PyObject* number = PyLong_FromLongLong(numbers[i]);
        if (number == nullptr) {
            Py_DECREF(tuple);
            return nullptr;
        }
        PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i + 1), number);
    }
    return tuple;
}

// The policy of a `self` whose type the method descriptor has checked; null with an error set when it was made by
// __new__ alone. A pybind11 method would cost four times what the hit does.
const TimedPolicy* policy_of(PyObject* self) noexcept {
    auto* instance = reinterpret_cast<py::detail::instance*>(self);
    const auto* policy = static_cast<const TimedPolicy*>(instance->get_value_and_holder().value_ptr());
    if (policy == nullptr) {
        PyErr_SetString(PyExc_TypeError, "a Policy is made by Limiter.policy()");
    }
    return policy;
}

template <bool kTakes>
PyObject* decide(PyObject* self, PyObject* const* arguments, Py_ssize_t count) noexcept {
    if (count < 1 || count > 2) {
        PyErr_Format(PyExc_TypeError, "expected keys and perhaps a cost, not %zd arguments", count);
        return nullptr;
    }
    const TimedPolicy* timed = policy_of(self);
    if (timed == nullptr) {
        return nullptr;
    }
    const Policy& policy = timed->policy;
    Keys keys;
    Costs costs;
    if (!keys.read(arguments[0], policy.size())) {
        return nullptr;
    }
    if (count == 1) {
        costs.read_default();
    } else if (!costs.read(arguments[1], policy.size())) {
        return nullptr;
    }
    if (!timed->limiter->follow_time()) {
        return nullptr;
    }
    // The GIL is kept: to release it costs more than the hit, and beside a busy thread it comes back milliseconds later.
    const Decision decision = kTakes ? policy.hit(keys.get(), costs.get()) : policy.peek(keys.get(), costs.get());
    if (!decision.is_stored) [[unlikely]] {
        timed->limiter->raise_unstored();
        return nullptr;
    }
    if constexpr (kTakes) {
        timed->limiter->tell_news();
    }
    return raw_decision(decision);
}

template <bool kTakes>
PyMethodDef fast_method(const char* name, const char* doc) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&decide<kTakes>)), METH_FASTCALL, doc};
}

void add_method(py::handle type, PyMethodDef& method) {
    const py::object descriptor = steal(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method));
    if (!descriptor) {
        throw py::error_already_set();
    }
    type.attr(method.ml_name) = descriptor;
}

struct Call {
    Keys keys;
    Costs costs;
    Call(const Policy& policy, const py::object& key_argument, const py::object& cost_argument) {
        if (!keys.read(key_argument.ptr(), policy.size()) || !costs.read(cost_argument.ptr(), policy.size())) {
            throw py::error_already_set();
        }
    }
};

OnFull on_full_named(const std::string& name) {
    if (name == "evict") {
        return OnFull::evict;
    }
    if (name == "refuse") {
        return OnFull::refuse;
    }
    if (name == "admit") {
        return OnFull::admit;
    }
    throw py::value_error("on_full is 'evict', 'refuse' or 'admit', not '" + name + "'");
}

void bind_policy(py::module_& module) {
    forbid_new(py::class_<OnceTicket, std::shared_ptr<OnceTicket>>(module, "Ticket", py::is_final()));

    py::class_<TimedPolicy, std::shared_ptr<TimedPolicy>> policy(module, "Policy", py::is_final());
    policy
        .def(
            "reserve",
            [](const std::shared_ptr<TimedPolicy>& self, const py::object& keys, const py::object& cost) {
                const Call call(self->policy, keys, cost);
                self->limiter->follow_time_or_throw();
                auto ticket = std::make_shared<OnceTicket>();
                ticket->policy = self;
                const Decision decision = self->policy.hit(call.keys.get(), call.costs.get(), &ticket->ticket);
                if (!decision.is_stored) {
                    self->limiter->raise_unstored();
                    throw py::error_already_set();
                }
                self->limiter->tell_news();
                const py::object answer = steal(raw_decision(decision));
                if (!answer) {
                    throw py::error_already_set();
                }
                return py::make_tuple(answer, decision.allowed ? py::cast(ticket) : py::none());
            },
            py::arg("keys"), py::arg("cost") = 1, py::pos_only())
        .def(
            "refund",
            [](const std::shared_ptr<TimedPolicy>& self, OnceTicket& ticket) {
                if (ticket.policy != self) {
                    throw py::value_error("the ticket is another policy's");
                }
                self->limiter->follow_time_or_throw();
                return !ticket.is_spent.exchange(true) && self->policy.refund(ticket.ticket);
            },
            py::arg("ticket"), py::pos_only())
        .def(
            "tally",
            [](const TimedPolicy& self, bool is_admitted, std::size_t refusing) {
                self.policy.tally(is_admitted, refusing);
            },
            py::arg("is_admitted"), py::arg("refusing"), py::pos_only())
        .def(
            "reset",
            [](const TimedPolicy& self, const py::object& keys) {
                Keys read;
                if (!read.read(keys.ptr(), self.policy.size())) {
                    throw py::error_already_set();
                }
                self.limiter->follow_time_or_throw();
                self.policy.reset(read.get());
            },
            py::arg("keys"), py::pos_only());
    static PyMethodDef hit =
        fast_method<true>("hit", "hit($self, keys, cost=1, /)\n--\n\nTakes the cost from all quotas or from none.");
    static PyMethodDef peek =
        fast_method<false>("peek", "peek($self, keys, cost=1, /)\n--\n\nWhat hit() would answer, changing nothing.");
    add_method(policy, hit);
    add_method(policy, peek);
    forbid_new(policy);
}

// A quota and a scope, and perhaps a name, and whether a request has made it, and the space that it is in.
Rule rule_of(py::handle rule) {
    try {
        const auto parts = py::cast<std::vector<py::object>>(rule);
        if (parts.size() >= 2 && parts.size() <= 5) {
            return {py::cast<Quota>(parts[0]), py::cast<std::string>(parts[1]),
                    parts.size() > 2 ? py::cast<std::string>(parts[2]) : std::string(),
                    parts.size() > 3 && py::cast<bool>(parts[3]) ? Origin::request : Origin::declared,
                    parts.size() > 4 ? py::cast<std::size_t>(parts[4]) : 0};
        }
    } catch (const py::cast_error&) {
        // Said below.
    }
    throw py::type_error("a rule is a quota and a scope, and perhaps a name, and whether a request has made it");
}

std::vector<Rule> rules_in(const py::sequence& rules) {
    // Whatever else it claims to hold is not asked for.
    if (rules.size() > kMaxRules) {
        throw py::value_error("a policy has from 1 to " + std::to_string(kMaxRules) + " rules, not " +
                              std::to_string(rules.size()));
    }
    std::vector<Rule> converted;
    converted.reserve(rules.size());
    for (const py::handle each : rules) {
        converted.push_back(rule_of(each));
    }
    return converted;
}

// (index, quota, scope, whether that is whole, admitted, refused, name, space, counted elsewhere)
py::list rules_of(const TimedLimiter& self) {
    py::list rules;
    const auto counts = self.get().rules();
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i]) {
            const RuleCounts& each = *counts[i];
            rules.append(py::make_tuple(i, each.quota, py::bytes(each.scope), each.is_whole, each.admitted,
                                        each.refused, py::bytes(each.name), each.space(), each.elsewhere));
        }
    }
    return rules;
}

// How many cells each rule holds, by its index; of two with the same cells the first one.
py::dict holdings_of(const TimedLimiter& self) {
    py::dict holdings;
    auto cells = self.get().holdings();
    const auto counts = self.get().rules();
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i]) {
            holdings[py::int_(i)] = std::exchange(cells[counts[i]->owner], 0);
        }
    }
    return holdings;
}

// ns that it has lasted, or None
py::object shortage_of(const TimedLimiter& self) {
    const std::optional<Nanos> lasted = self.get().shortage();
    return lasted ? py::object(py::int_(*lasted)) : py::object(py::none());
}

constexpr std::array<const char*, kMishaps> kMishapNames = {"raised", "passed", "fallback"};

void count_error(const TimedLimiter& self, const std::string& kind) {
    const auto* const name = std::find(kMishapNames.begin(), kMishapNames.end(), kind);
    if (name == kMishapNames.end()) {
        throw py::value_error("'" + kind + "' is none of 'raised', 'passed', 'fallback'");
    }
    self.get().count(static_cast<Mishap>(name - kMishapNames.begin()));
}

py::dict errors_of(const TimedLimiter& self) {
    py::dict errors;
    const auto counts = self.get().mishaps();
    for (std::size_t i = 0; i < kMishaps; ++i) {
        errors[kMishapNames[i]] = counts[i];
    }
    return errors;
}

// (identity, strategy, window, limit, used, (index of the rule, key, whether that is whole) or None)
py::list survey_of(TimedLimiter& self, std::size_t most) {
    self.follow_time_or_throw();
    py::list usages;
    for (const Usage& each : self.get().survey(most)) {
        const py::object noted =
            each.noted ? py::make_tuple(each.noted->rule, py::bytes(each.noted->key), each.noted->is_whole)
                       : py::object(py::none());
        usages.append(py::make_tuple(each.identity, name_of(each.strategy), each.window, each.limit, each.used, noted));
    }
    return usages;
}

}  // namespace

void TimedLimiter::raise_unstored() noexcept {
    const TableStats stats = limiter_.stats();
    const py::object text = steal(PyUnicode_FromFormat(
        "%s: the system has no memory or disk for another key: %llu of %llu bytes for keys are taken, and %llu bytes "
        "are "
        "free there",
        limiter_.where().c_str(), static_cast<unsigned long long>(stats.bytes),
        static_cast<unsigned long long>(stats.capacity_bytes), static_cast<unsigned long long>(limiter_.free_bytes())));
    if (!text) {
        return;
    }
    if (!notify_.is_none() && limiter_.is_shortage_to_be_told()) {
        const py::object told = steal(PyObject_CallOneArg(notify_.ptr(), text.ptr()));
        if (!told) {
            PyErr_WriteUnraisable(notify_.ptr());
        }
    }
    PyErr_SetObject(full_error_.ptr(), text.ptr());
}

void TimedLimiter::tell_holder() noexcept {
    try {
        const std::optional<Holder> holder = limiter_.holder_to_be_told();
        if (!holder || notify_full_.is_none()) {
            return;
        }
        py::object rule = py::none();
        for (const std::optional<RuleCounts>& each : limiter_.rules_of_all()) {
            if (each && each->owner == holder->owner) {
                rule = py::make_tuple(each->quota, py::bytes(each->scope), py::bytes(each->name));
                break;
            }
        }
        notify_full_(limiter_.where(), rule, holder->cells, holder->of);
    } catch (py::error_already_set& error) {
        error.discard_as_unraisable("slidegate: to tell that memory is full");
    } catch (const std::exception&) {
        // There is no memory to tell it with.
    }
}

void bind_limiter(py::module_& module) {
    bind_policy(module);

    py::class_<TableStats> stats(module, "Stats", py::is_final());
    stats.def_readonly("cells", &TableStats::cells)
        .def_readonly("bytes", &TableStats::bytes)
        .def_readonly("capacity_bytes", &TableStats::capacity_bytes)
        .def_readonly("evictions", &TableStats::evictions)
        .def_readonly("full", &TableStats::full);
    forbid_new(stats);

    py::class_<TimedLimiter, std::shared_ptr<TimedLimiter>> limiter(module, "Limiter", py::is_final());
    forbid_copies(limiter);
    make_whole(
        limiter,
        [](std::size_t size, const std::string& on_full, std::shared_ptr<Clock> clock, std::shared_ptr<Segment> segment,
           bool record_keys, py::object full_error, py::object notify, py::object notify_full,
           const std::string& space) {
            // What several processes count in goes by the time of the machine: what one of them fakes would be the future
            // to the others.
            if (clock == nullptr && segment != nullptr) {
                clock = std::make_shared<BootClock>();
            } else if (clock == nullptr) {
                clock = std::make_shared<PythonClock>();
            }
            return std::make_shared<TimedLimiter>(
                Options{size, on_full_named(on_full), {}, {}, std::move(segment), record_keys, space}, std::move(clock),
                std::move(full_error), std::move(notify), std::move(notify_full));
        },
        py::kw_only(), py::arg("size") = kDefaultSize, py::arg("on_full") = "evict", py::arg("clock") = py::none(),
        py::arg("segment") = py::none(), py::arg("record_keys") = false,
        py::arg("full_error") = py::reinterpret_borrow<py::object>(PyExc_MemoryError), py::arg("notify") = py::none(),
        py::arg("notify_full") = py::none(), py::arg("space") = "");
    limiter.def_property_readonly("clock", &TimedLimiter::clock, py::pos_only())
        .def(
            "policy",
            [](const std::shared_ptr<TimedLimiter>& self, const py::sequence& rules) {
                return std::make_shared<TimedPolicy>(TimedPolicy{self, self->policy(rules_in(rules))});
            },
            py::arg("rules"), py::pos_only())
        .def(
            "reader",
            [](const std::shared_ptr<TimedLimiter>& self, const py::sequence& rules) {
                std::vector<Rule> converted = rules_in(rules);
                for (Rule& each : converted) {
                    each.origin = Origin::reader;
                }
                return std::make_shared<TimedPolicy>(TimedPolicy{self, self->policy(converted)});
            },
            py::arg("rules"), py::pos_only())
        .def("reset",
             [](TimedLimiter& self) {
                 self.follow_time_or_throw();
                 {
                     // A look at every cell, 0.1 s in a large table: not while other threads wait for the GIL.
                     const py::gil_scoped_release others;
                     self.get().reset();
                 }
                 self.forget_time();
             })
        .def("stats", [](const TimedLimiter& self) { return self.get().stats(); })
        .def("shortage", &shortage_of)
        .def("shortages", [](const TimedLimiter& self) { return self.get().shortages(); })
        .def("rules", &rules_of)
        .def("holdings", &holdings_of)
        .def("count_error", &count_error, py::arg("kind"), py::pos_only())
        .def("errors", &errors_of)
        .def("survey", &survey_of, py::arg("most"), py::pos_only())
        .def("now", [](TimedLimiter& self) {
            self.follow_time_or_throw();
            return self.get().now();
        });
    limiter.attr("default_size") = kDefaultSize;
}

}  // namespace slidegate::bindings
