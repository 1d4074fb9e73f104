#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <memory>

#include <pybind11/pybind11.h>

#include "bindings.hpp"
#include "closure.hpp"
#include "record.hpp"
#include "wall_time.hpp"

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

// What the memory of a teller consists of, and that of a `send` of its.
enum TellerPart : Py_ssize_t { kNames, kView, kOtherwise, kWall };
enum SendPart : Py_ssize_t { kSend, kScope, kTeller };

// The limit that was decided for the request with this scope, borrowed; null when its state tells of something else.
PyObject* view_in(PyObject* scope, PyObject* kind) noexcept {
    PyObject* state = PyDict_CheckExact(scope) ? PyDict_GetItemWithError(scope, names().state) : nullptr;
    PyObject* view =
        state != nullptr && PyDict_CheckExact(state) ? PyDict_GetItemWithError(state, names().view) : nullptr;
    const Record* record = view != nullptr ? record_in(scope) : nullptr;
    return record != nullptr && record->view == view && reinterpret_cast<PyObject*>(Py_TYPE(view)) == kind ? view
                                                                                                           : nullptr;
}

// Puts headers into the message that begins a response. False with an error set.
bool tell(PyObject* teller, PyObject* scope, PyObject* message) noexcept {
    static PyObject* const amount_name = PyUnicode_InternFromString("amount");
    // Owned: attributes that are read in Python can take anything out of the dictionaries.
    const Owned view(Py_XNewRef(view_in(scope, PyTuple_GET_ITEM(teller, kView))));
    const Owned headers(Py_XNewRef(PyDict_GetItemWithError(message, names().headers)));
    const WallTime& wall = owned_by<WallTime>(PyTuple_GET_ITEM(teller, kWall));
    if (!view || PyTuple_GET_SIZE(view.get()) == 0 || !headers || !wall.is_real()) {
        PyErr_Clear();
        return static_cast<bool>(
            Owned(PyObject_CallFunctionObjArgs(PyTuple_GET_ITEM(teller, kOtherwise), scope, message, nullptr)));
    }
    const Owned essentials(PyObject_GetAttr(view.get(), names().essentials));
    const Owned amount(essentials ? PyObject_GetAttr(PyTuple_GET_ITEM(view.get(), 0), amount_name) : nullptr);
    if (!amount) {
        return false;
    }
    const std::int64_t number = PyLong_AsLongLong(amount.get());
    if (!are_essentials(essentials.get()) || PyErr_Occurred() != nullptr) {
        PyErr_SetString(PyExc_TypeError, "the limit of a request was replaced by something that is none");
        return false;
    }
    const double now_s = static_cast<double>(machine_wall_time()) / 1e6;
    const Owned told(added(headers.get(), PyTuple_GET_ITEM(teller, kNames), number, essentials.get(), now_s));
    return told && PyDict_SetItem(message, names().headers, told.get()) == 0;
}

PyObject* send_telling(PyObject* memory, PyObject* message) noexcept {
    if (PyDict_CheckExact(message)) {
        const bool is_start = equals(PyDict_GetItemWithError(message, names().type), names().start);
        // Of a key that cannot be compared.
        PyErr_Clear();
        if (is_start && !tell(PyTuple_GET_ITEM(memory, kTeller), PyTuple_GET_ITEM(memory, kScope), message)) {
            return nullptr;
        }
    }
    return PyObject_CallOneArg(PyTuple_GET_ITEM(memory, kSend), message);
}

PyObject* around(PyObject* teller, PyObject* const* arguments, Py_ssize_t count) noexcept {
    static PyMethodDef method = {"send", &send_telling, METH_O,
                                 "Sends a message, with headers if it begins a response."};
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "around(send, scope)");
        return nullptr;
    }
    const Owned memory(PyTuple_Pack(3, arguments[0], arguments[1], teller));
    return memory ? PyCFunction_New(&method, memory.get()) : nullptr;
}

py::object teller(const py::tuple& field_names, const py::type& view, const py::object& otherwise) {
    static PyMethodDef method = {"around", fast(&around), METH_FASTCALL, "The send of one request."};
    if (!are_names(field_names.ptr()) || !is_kind_of_tuple(view)) {
        throw py::type_error("names are three bytes, and a view is a kind of tuple");
    }
    static_cast<void>(names());
    return closure(method, py::make_tuple(field_names, view, otherwise, capsule_of(std::make_unique<WallTime>())));
}

}  // namespace

void bind_headers(py::module_& module) {
    module.def("teller", &teller, py::arg("names"), py::arg("view"), py::arg("otherwise"), py::pos_only());
    static PyMethodDef method = {
        "with_quota", fast(&with_quota), METH_FASTCALL,
        "with_quota($module, headers, names, amount, essentials, now_s, /)\n--\n\n"
        "A copy of raw headers with limit, remaining and the time of the reset, in whole seconds, under these names."};
    module.attr(method.ml_name) = closure(method, module);
}

}  // namespace slidegate::bindings
