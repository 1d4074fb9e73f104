#include <memory>
#include <stdexcept>
#include <string>

#include "bindings.hpp"
#include "python_clock.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

// The engine notes times in 62 bits.
constexpr Nanos kLatest = (Nanos{1} << 62) - 1;

Nanos checked(Nanos now) {
    if (now < 0 || now > kLatest) {
        throw py::value_error("a time is from 0 to " + std::to_string(kLatest) + " ns, not " + std::to_string(now));
    }
    return now;
}

void advance(ManualClock& clock, Nanos by) {
    const Nanos now = clock.now();
    if (by > kLatest - now) {
        throw py::value_error("a time is at most " + std::to_string(kLatest) + " ns: " + std::to_string(now) +
                              " cannot be advanced by " + std::to_string(by));
    }
    clock.set(checked(now + by));
}

void advance_held(PythonClock& clock, Nanos by) {
    if (!clock.is_held()) {
        throw std::runtime_error("only a clock that is held can be advanced");
    }
    if (by < 0) {
        throw py::value_error("time does not go back: " + std::to_string(by) + " ns");
    }
    clock.advance(by);
}

}  // namespace

void bind_clock(py::module_& module) {
    py::class_<Clock, std::shared_ptr<Clock>> clock(module, "Clock");
    clock.def("now", &Clock::now, py::pos_only());
    forbid_new(clock);

    const py::class_<BootClock, Clock, std::shared_ptr<BootClock>> boot(module, "BootClock", py::is_final());
    make_whole(boot, [] { return std::make_shared<BootClock>(); });

    py::class_<ManualClock, Clock, std::shared_ptr<ManualClock>> manual(module, "ManualClock", py::is_final());
    manual.def("advance", &advance, py::arg("ns"))
        .def("set", [](ManualClock& self, Nanos now) { self.set(checked(now)); }, py::arg("now_ns"));
    make_whole(manual, [](Nanos now) { return std::make_shared<ManualClock>(checked(now)); }, py::arg("now_ns") = 0);

    py::class_<PythonClock, Clock, std::shared_ptr<PythonClock>> python(module, "PythonClock", py::is_final());
    python.def("hold", &PythonClock::hold, py::pos_only())
        .def("advance", &advance_held, py::arg("ns"))
        .def("release", &PythonClock::release, py::pos_only())
        .def_property_readonly("is_held", &PythonClock::is_held, py::pos_only());
    make_whole(python, [] { return std::make_shared<PythonClock>(); });
}

}  // namespace slidegate::bindings
