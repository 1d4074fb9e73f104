#include <memory>

#include "bindings.hpp"
#include "slidegate/clock.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

void bind_clock(py::module_& module) {
    py::class_<Clock, std::shared_ptr<Clock>>(module, "Clock").def("now", &Clock::now);
    py::class_<BootClock, Clock, std::shared_ptr<BootClock>>(module, "BootClock", py::is_final()).def(py::init<>());
    py::class_<ManualClock, Clock, std::shared_ptr<ManualClock>>(module, "ManualClock", py::is_final())
        .def(py::init<Nanos>(), py::arg("now_ns") = 0)
        .def("advance", &ManualClock::advance, py::arg("ns"))
        .def("set", &ManualClock::set, py::arg("now_ns"));
}

}  // namespace slidegate::bindings
