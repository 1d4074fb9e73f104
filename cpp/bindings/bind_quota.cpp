#include <functional>
#include <string>

#include "bindings.hpp"
#include "slidegate/values/errors.hpp"
#include "slidegate/values/quota.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

// Any Python integer: one that no 64 bits hold is as much out of range as one that they do.
template <class T>
T in_range(const py::int_& value, const char* what) {
    try {
        return value.cast<T>();
    } catch (const py::cast_error&) {
        throw InvalidQuota("the " + std::string(what) + " of a quota is out of range: " + std::string(py::str(value)));
    }
}

}  // namespace

void bind_quota(py::module_& module) {
    py::class_<Quota> type(module, "Quota", py::is_final());
    make_whole(
        type,
        [](const py::int_& amount, const py::int_& window_ns, const std::string& strategy) {
            return Quota(in_range<std::uint64_t>(amount, "amount"), in_range<Nanos>(window_ns, "window"),
                         strategy_named(strategy));
        },
        py::arg("amount"), py::arg("window_ns"), py::arg("strategy") = "moving-window");
    type.def_property_readonly("amount", &Quota::amount, py::pos_only())
        .def_property_readonly("window_ns", &Quota::window, py::pos_only())
        .def_property_readonly("strategy", [](const Quota& self) { return std::string(name_of(self.strategy())); })
        .def(
            "__eq__",
            [](const Quota& self, const py::object& other) {
                return py::isinstance<Quota>(other) && self == other.cast<const Quota&>();
            },
            py::arg("other"), py::pos_only())
        .def("__hash__",
             [](const Quota& self) {
                 return py::hash(py::make_tuple(self.amount(), self.window(), static_cast<int>(self.strategy())));
             })
        .def("__reduce__",
             [](const py::object& self) {
                 return py::make_tuple(py::type::of(self), py::make_tuple(self.attr("amount"), self.attr("window_ns"),
                                                                          self.attr("strategy")));
             })
        .def("__repr__", [](const Quota& self) {
            return "Quota(" + std::to_string(self.amount()) + ", " + std::to_string(self.window()) + ", '" +
                   std::string(name_of(self.strategy())) + "')";
        });
}

}  // namespace slidegate::bindings
