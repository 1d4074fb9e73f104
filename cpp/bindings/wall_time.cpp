#include "wall_time.hpp"

#include <cmath>
#include <dlfcn.h>

#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

// Beyond the year 9999 in both directions; sums and differences stay far from the ends of 64 bits.
constexpr double kMostSeconds = 1e12;

bool is_of_one_library(const void* one, const void* other) noexcept {
    Dl_info one_info{};
    Dl_info other_info{};
    return dladdr(one, &one_info) == 0 || dladdr(other, &other_info) == 0 || one_info.dli_fbase == other_info.dli_fbase;
}

}  // namespace

WallTime::WallTime() {
    const py::module_ time = py::module_::import("time");
    // Somebody may have replaced time.time already. A second module of the same code has what the first one had.
    const py::object pristine = py::module_::import("importlib.util").attr("module_from_spec")(time.attr("__spec__"));
    const py::object function = pristine.attr("time");
    if (!PyCFunction_CheckExact(function.ptr())) {
        throw py::type_error("time.time is no built-in function of this Python");
    }
    method_ = reinterpret_cast<PyCFunctionObject*>(function.ptr())->m_ml;
    py::object names = time.attr("__dict__");
    py::object read = py::module_::import("slidegate._support.clock").attr("faked_time");
    name_ = PyUnicode_InternFromString("time");
    if (name_ == nullptr) {
        throw py::error_already_set();
    }
    names_ = names.release().ptr();
    read_ = read.release().ptr();
    static_cast<void>(is_real_now());
}

WallTime::~WallTime() {
    Py_DECREF(read_);
    Py_DECREF(name_);
    Py_DECREF(names_);
}

bool WallTime::is_real_now() noexcept {
    // A function that was put into the built-in object comes from another library than the object's table.
    if (genuine_ == nullptr && is_of_one_library(reinterpret_cast<const void*>(method_->ml_meth), method_)) {
        genuine_ = method_->ml_meth;
    }
    return is_real();
}

std::optional<FakedTime> WallTime::read() const noexcept {
    const auto answer = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(read_));
    const bool is_pair = answer && PyTuple_CheckExact(answer.ptr()) && PyTuple_GET_SIZE(answer.ptr()) == 2;
    const double seconds = is_pair ? PyFloat_AsDouble(PyTuple_GET_ITEM(answer.ptr(), 0)) : 0;
    if (PyErr_Occurred() != nullptr) {
        if (PyErr_ExceptionMatches(PyExc_Exception) != 0) {
            PyErr_Clear();
        }
        return std::nullopt;
    }
    if (!is_pair || !(std::abs(seconds) < kMostSeconds)) {
        return std::nullopt;
    }
    return FakedTime{static_cast<WallMicros>(std::llround(seconds * 1e6)),
                     py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(answer.ptr(), 1))};
}

}  // namespace slidegate::bindings
