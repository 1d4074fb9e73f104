#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

#include <pybind11/pybind11.h>

#include "bindings.hpp"
#include "closure.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

constexpr Py_ssize_t kFields = 3;
constexpr double kNanosPerSecond = 1e9;
// What 64 bits hold whatever it is rounded to.
constexpr double kMostSeconds = 9e18;

bool is_one_of(PyObject* name, PyObject* names) noexcept {
    if (!PyBytes_Check(name)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < kFields; ++i) {
        PyObject* own = PyTuple_GET_ITEM(names, i);
        if (PyBytes_GET_SIZE(own) == PyBytes_GET_SIZE(name) &&
            std::char_traits<char>::compare(PyBytes_AS_STRING(own), PyBytes_AS_STRING(name),
                                            static_cast<std::size_t>(PyBytes_GET_SIZE(own))) == 0) {
            return true;
        }
    }
    return false;
}

// A (name, decimal) pair; null with an error set when there is no memory.
PyObject* field(PyObject* name, std::int64_t value) noexcept {
    std::array<char, 20> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    PyObject* text = PyBytes_FromStringAndSize(digits.data(), end - digits.data());
    PyObject* pair = text == nullptr ? nullptr : PyTuple_New(2);
    if (pair == nullptr) {
        Py_XDECREF(text);
        return nullptr;
    }
    PyTuple_SET_ITEM(pair, 0, Py_NewRef(name));
    PyTuple_SET_ITEM(pair, 1, text);
    return pair;
}

bool append_fields(PyObject* list, PyObject* names, const std::array<std::int64_t, kFields>& values) noexcept {
    for (Py_ssize_t i = 0; i < kFields; ++i) {
        PyObject* pair = field(PyTuple_GET_ITEM(names, i), values[static_cast<std::size_t>(i)]);
        if (pair == nullptr || PyList_Append(list, pair) != 0) {
            Py_XDECREF(pair);
            return false;
        }
        Py_DECREF(pair);
    }
    return true;
}

bool are_names(PyObject* names) noexcept {
    if (!PyTuple_Check(names) || PyTuple_GET_SIZE(names) != kFields) {
        return false;
    }
    for (Py_ssize_t i = 0; i < kFields; ++i) {
        if (!PyBytes_Check(PyTuple_GET_ITEM(names, i))) {
            return false;
        }
    }
    return true;
}

// `headers` is any iterable of pairs; null with an error set.
PyObject* added(PyObject* headers, PyObject* names, std::int64_t amount, PyObject* essentials, double now_s) noexcept {
    const std::int64_t remaining = PyLong_AsLongLong(PyTuple_GET_ITEM(essentials, 2));
    const auto reset_after = static_cast<double>(PyLong_AsLongLong(PyTuple_GET_ITEM(essentials, 3)));
    const double reset = std::ceil(now_s + reset_after / kNanosPerSecond);
    if (PyErr_Occurred() != nullptr) {
        return nullptr;
    }
    if (!(std::abs(reset) < kMostSeconds)) {
        PyErr_SetString(PyExc_ValueError, "the time of a reset is beyond all times");
        return nullptr;
    }
    PyObject* list = PySequence_List(headers);
    if (list == nullptr) {
        return nullptr;
    }
    for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; --i) {
        PyObject* pair = PyList_GET_ITEM(list, i);
        if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && is_one_of(PyTuple_GET_ITEM(pair, 0), names) &&
            PyList_SetSlice(list, i, i + 1, nullptr) != 0) {
            Py_DECREF(list);
            return nullptr;
        }
    }
    if (!append_fields(list, names, {amount, remaining, static_cast<std::int64_t>(reset)})) {
        Py_DECREF(list);
        return nullptr;
    }
    return list;
}

PyObject* with_quota(PyObject*, PyObject* const* arguments, Py_ssize_t count) noexcept {
    if (count != 5 || !are_names(arguments[1]) || !are_essentials(arguments[3])) {
        PyErr_SetString(PyExc_TypeError,
                        "with_quota(headers, names, amount, essentials, now_s): names are three bytes");
        return nullptr;
    }
    const std::int64_t amount = PyLong_AsLongLong(arguments[2]);
    const double now_s = PyFloat_AsDouble(arguments[4]);
    return PyErr_Occurred() != nullptr ? nullptr : added(arguments[0], arguments[1], amount, arguments[3], now_s);
}

}  // namespace

void bind_headers(py::module_& module) {
    static PyMethodDef method = {
        "with_quota", fast(&with_quota), METH_FASTCALL,
        "with_quota($module, headers, names, amount, essentials, now_s, /)\n--\n\n"
        "A copy of raw headers with limit, remaining and the time of the reset, in whole seconds, under these names."};
    module.attr(method.ml_name) = closure(method, module);
}

}  // namespace slidegate::bindings
