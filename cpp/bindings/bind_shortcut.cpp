#include <cstdint>
#include <memory>

#include "bindings.hpp"
#include "closure.hpp"
#include "record.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

struct Uses {
    std::int64_t left;
};

// What the memory of a shortcut consists of.
enum Part : Py_ssize_t { kApp, kEntries, kAttributes, kLists, kMemo, kUses, kParts };

bool are_same(PyObject* entries) noexcept {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(entries); ++i) {
        PyObject* entry = PyTuple_GET_ITEM(entries, i);
        if (PyDict_GetItemWithError(PyTuple_GET_ITEM(entry, 0), PyTuple_GET_ITEM(entry, 1)) !=
            PyTuple_GET_ITEM(entry, 2)) {
            return false;
        }
    }
    return true;
}

bool have_same(PyObject* attributes) noexcept {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(attributes); ++i) {
        PyObject* entry = PyTuple_GET_ITEM(attributes, i);
        const Owned value(PyObject_GetAttr(PyTuple_GET_ITEM(entry, 0), PyTuple_GET_ITEM(entry, 1)));
        if (value.get() != PyTuple_GET_ITEM(entry, 2)) {
            return false;
        }
    }
    return true;
}

bool are_as_long(PyObject* lists) noexcept {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(lists); ++i) {
        PyObject* entry = PyTuple_GET_ITEM(lists, i);
        if (PyList_GET_SIZE(PyTuple_GET_ITEM(entry, 0)) != PyLong_AsSsize_t(PyTuple_GET_ITEM(entry, 1))) {
            return false;
        }
    }
    return true;
}

// Also when something odd in a scope could not be compared.
PyObject* none() noexcept {
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

// (value, position, node)
bool is_entry(PyObject* entry) noexcept {
    return entry != nullptr && PyTuple_Check(entry) && PyTuple_GET_SIZE(entry) == 3;
}

PyObject* look_up(PyObject* memory, PyObject* scope) noexcept {
    const Names& known = names();
    if (!PyDict_CheckExact(scope)) {
        return none();
    }
    if (!equals(PyDict_GetItemWithError(scope, known.type), known.http) ||
        PyDict_GetItemWithError(scope, known.app) != PyTuple_GET_ITEM(memory, kApp)) {
        return none();
    }
    // What is known of another scope may be known of the same request, which takes longer to find out.
    if (const Record* record = record_in(scope); record != nullptr && record->scope != scope) {
        return none();
    }
    PyObject* root_path = PyDict_GetItemWithError(scope, known.root_path);
    if (root_path != nullptr && (!PyUnicode_CheckExact(root_path) || PyUnicode_GET_LENGTH(root_path) != 0)) {
        return none();
    }
    std::int64_t& uses_left = owned_by<Uses>(PyTuple_GET_ITEM(memory, kUses)).left;
    if (uses_left < 1 || --uses_left < 0 || !are_same(PyTuple_GET_ITEM(memory, kEntries)) ||
        !have_same(PyTuple_GET_ITEM(memory, kAttributes)) || !are_as_long(PyTuple_GET_ITEM(memory, kLists))) {
        PyErr_Clear();
        return Py_NewRef(Py_False);
    }
    // Owned: keys that compare in Python can take anything out of any of the dictionaries meanwhile.
    const Owned method(Py_XNewRef(PyDict_GetItemWithError(scope, known.method)));
    const Owned path(Py_XNewRef(PyDict_GetItemWithError(scope, known.path)));
    const Owned by_path(
        Py_XNewRef(method ? PyDict_GetItemWithError(PyTuple_GET_ITEM(memory, kMemo), method.get()) : nullptr));
    const Owned entry(Py_XNewRef(by_path && path ? PyDict_GetItemWithError(by_path.get(), path.get()) : nullptr));
    if (!is_entry(entry.get())) {
        return none();
    }
    // The value holds while that node is at that position of the first list.
    PyObject* routes = PyTuple_GET_ITEM(PyTuple_GET_ITEM(PyTuple_GET_ITEM(memory, kLists), 0), 0);
    const Py_ssize_t position = PyLong_AsSsize_t(PyTuple_GET_ITEM(entry.get(), 1));
    const bool is_there = position >= 0 && position < PyList_GET_SIZE(routes) &&
                          PyList_GET_ITEM(routes, position) == PyTuple_GET_ITEM(entry.get(), 2);
    return is_there ? Py_NewRef(PyTuple_GET_ITEM(entry.get(), 0)) : none();
}

template <typename First>
py::tuple checked(const py::sequence& watched, std::size_t size) {
    py::list entries;
    for (const py::handle each : watched) {
        if (!py::isinstance<py::tuple>(each) || py::len(each) != size ||
            !py::isinstance<First>(py::handle(PyTuple_GET_ITEM(each.ptr(), 0)))) {
            throw py::type_error("what is watched is told in tuples");
        }
        entries.append(each);
    }
    return py::tuple(entries);
}

py::object shortcut(const py::object& app, const py::sequence& entries, const py::sequence& attributes,
                    const py::sequence& lists, const py::dict& memo, std::int64_t uses) {
    static PyMethodDef method = {"find", &look_up, METH_O, "What is remembered about a request with this scope."};
    const py::tuple lengths = checked<py::list>(lists, 2);
    if (lengths.empty()) {
        throw py::value_error("the first of the lists is that of the routes");
    }
    static_cast<void>(names());
    const py::tuple memory = py::make_tuple(app, checked<py::dict>(entries, 3), checked<py::object>(attributes, 3),
                                            lengths, memo, capsule_of(std::make_unique<Uses>(uses)));
    return closure(method, memory);
}

}  // namespace

void bind_shortcut(py::module_& module) {
    module.def("shortcut", &shortcut, py::arg("app"), py::arg("entries"), py::arg("attributes"), py::arg("lists"),
               py::arg("memo"), py::arg("uses"), py::pos_only());
}

}  // namespace slidegate::bindings
