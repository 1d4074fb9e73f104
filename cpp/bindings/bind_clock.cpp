#include <memory>
#include <stdexcept>
#include <string>

#include "bindings.hpp"
#include "python_clock.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

void advance(PythonClock& clock, Nanos by) {
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
    py::class_<Clock, std::shared_ptr<Clock>>(module, "Clock").def("now", &Clock::now);
    py::class_<BootClock, Clock, std::shared_ptr<BootClock>>(module, "BootClock", py::is_final()).def(py::init<>());
    py::class_<ManualClock, Clock, std::shared_ptr<ManualClock>>(module, "ManualClock", py::is_final())
        .def(py::init<Nanos>(), py::arg("now_ns") = 0)
        .def("advance", &ManualClock::advance, py::arg("ns"))
        .def("set", &ManualClock::set, py::arg("now_ns"));
    py::class_<PythonClock, Clock, std::shared_ptr<PythonClock>>(module, "PythonClock", py::is_final())
        .def(py::init<>())
        .def("hold", &PythonClock::hold)
        .def("advance", &advance, py::arg("ns"))
        .def("release", &PythonClock::release)
        .def_property_readonly("is_held", &PythonClock::is_held);
}

}  // namespace slidegate::bindings
