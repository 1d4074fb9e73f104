#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

#include "bindings.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

constexpr double kNanosPerSecond = 1e9;
// What 64 bits hold whatever it is rounded to.
constexpr double kMostSeconds = 9e18;

using Names = std::array<PyObject*, 3>;

std::string_view text_of(PyObject* bytes) noexcept {
    return {PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes))};
}

bool is_named_so(PyObject* field, const Names& names) noexcept {
    if (!PyTuple_Check(field) || PyTuple_GET_SIZE(field) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(field, 0))) {
        return false;
    }
    const std::string_view name = text_of(PyTuple_GET_ITEM(field, 0));
    return name == text_of(names[0]) || name == text_of(names[1]) || name == text_of(names[2]);
}

// False with an error set when there is no memory.
bool append_field(PyObject* list, PyObject* name, long long value) noexcept {
    std::array<char, 20> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    const py::object text = steal(PyBytes_FromStringAndSize(digits.data(), end - digits.data()));
    const py::object field = steal(text ? PyTuple_Pack(2, name, text.ptr()) : nullptr);
    return field && PyList_Append(list, field.ptr()) == 0;
}

PyObject* with_quota(PyObject*, PyObject* arguments) noexcept {
    PyObject* headers = nullptr;
    PyObject* name_tuple = nullptr;
    PyObject* raw_decision = nullptr;
    PyObject* unused = nullptr;
    Names names{};
    long long amount = 0;
    long long remaining = 0;
    long long reset_after = 0;
    double now_s = 0;
    if (PyArg_ParseTuple(arguments, "OO!LO!d:with_quota", &headers, &PyTuple_Type, &name_tuple, &amount, &PyTuple_Type,
                         &raw_decision, &now_s) == 0 ||
        PyArg_ParseTuple(name_tuple, "SSS;names are three bytes", &names[0], &names[1], &names[2]) == 0 ||
        PyArg_ParseTuple(raw_decision, "OOLLO;a raw decision has five members", &unused, &unused, &remaining,
                         &reset_after, &unused) == 0) {
        return nullptr;
    }
    const double reset = std::ceil(now_s + static_cast<double>(reset_after) / kNanosPerSecond);
    if (!(std::abs(reset) < kMostSeconds)) {
        PyErr_SetString(PyExc_ValueError, "the time of a reset is beyond all times");
        return nullptr;
    }
    py::object list = steal(PySequence_List(headers));
    if (!list) {
        return nullptr;
    }
    for (Py_ssize_t i = PyList_GET_SIZE(list.ptr()) - 1; i >= 0; --i) {
        if (is_named_so(PyList_GET_ITEM(list.ptr(), i), names) && PyList_SetSlice(list.ptr(), i, i + 1, nullptr) != 0) {
            return nullptr;
        }
    }
    const bool is_whole = append_field(list.ptr(), names[0], amount) && append_field(list.ptr(), names[1], remaining) &&
                          append_field(list.ptr(), names[2], static_cast<long long>(reset));
    return is_whole ? list.release().ptr() : nullptr;
}

}  // namespace

void bind_headers(py::module_& module) {
    static PyMethodDef method = {
        "with_quota", &with_quota, METH_VARARGS,
        "with_quota($module, headers, names, amount, raw_decision, now_s, /)\n--\n\n"
        "A copy of raw headers with limit, remaining and the time of the reset, in whole seconds, under these names."};
    module.attr(method.ml_name) = steal(PyCFunction_New(&method, module.ptr()));
}

}  // namespace slidegate::bindings
