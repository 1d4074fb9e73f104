#include <memory>
#include <utility>

#include "bindings.hpp"
#include "closure.hpp"
#include "record.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

// The path of the last request and what goes before its keys: most endpoints have one path. Strings only.
struct Latest {
    Owned path;
    Owned lead;
};

enum Part : Py_ssize_t {
    kHit,
    kCost,
    kItems,
    kLabels,
    kView,
    kDone,
    kPrefix,
    kEndpoint,
    kExempt,
    kFull,
    kReached,
    kLatest,
    kClient,
    kParts
};

PyObject* part(PyObject* memory, Part which) noexcept { return PyTuple_GET_ITEM(memory, which); }

// () for: nothing was done, as this is no case for a short cut.
PyObject* undone() noexcept { return PyTuple_New(0); }

bool is_text(PyObject* object) noexcept { return object != nullptr && PyUnicode_CheckExact(object); }

// The scope itself, or that of a request whose class has this very property for its client, if one is given, which then
// says what the scope says; null, perhaps with an error, for others.
Owned scope_of(PyObject* asked, PyObject* client) noexcept {
    static PyObject* const kScope = PyUnicode_InternFromString("scope");
    if (PyDict_CheckExact(asked)) {
        return Owned(Py_NewRef(asked));
    }
    const bool is_stock = client == nullptr || _PyType_Lookup(Py_TYPE(asked), names().client) == client;
    return Owned(is_stock ? PyObject_GetAttr(asked, kScope) : nullptr);
}

// The host of the peer, borrowed; null when it is not told in the usual way.
PyObject* peer(PyObject* scope) noexcept {
    PyObject* client = PyDict_GetItemWithError(scope, names().client);
    if (client == nullptr) {
        return nullptr;
    }
    if (PyTuple_CheckExact(client) && PyTuple_GET_SIZE(client) > 0) {
        return PyTuple_GET_ITEM(client, 0);
    }
    return PyList_CheckExact(client) && PyList_GET_SIZE(client) > 0 ? PyList_GET_ITEM(client, 0) : nullptr;
}

// "<length>:<path>", as slidegate._rules.bucket.joined has it.
PyObject* lead_of(Latest& latest, PyObject* path) noexcept {
    if (!latest.path || PyUnicode_Compare(latest.path.get(), path) != 0) {
        Owned lead(PyUnicode_FromFormat("%zd:%U", PyUnicode_GET_LENGTH(path), path));
        if (!lead) {
            return nullptr;
        }
        latest.path = Owned(Py_NewRef(path));
        latest.lead = std::move(lead);
    }
    return latest.lead.get();
}

// What `slidegate._http.view.CurrentLimit.of` makes: (item, [prefix?, key, label]), with the essentials as an attribute.
PyObject* view_of(PyObject* memory, PyObject* essentials, Py_ssize_t item, PyObject* key, PyObject* label) noexcept {
    PyObject* prefix = part(memory, kPrefix);
    const Py_ssize_t shift = prefix == Py_None ? 0 : 1;
    Owned identifiers(PyList_New(2 + shift));
    if (!identifiers) {
        return nullptr;
    }
    if (shift == 1) {
        PyList_SET_ITEM(identifiers.get(), 0, Py_NewRef(prefix));
    }
    PyList_SET_ITEM(identifiers.get(), shift, Py_NewRef(key));
    PyList_SET_ITEM(identifiers.get(), shift + 1, Py_NewRef(label));
    PyObject* kind = part(memory, kView);
    Owned view(kind == Py_None
                   ? PyTuple_New(2)
                   : reinterpret_cast<PyTypeObject*>(kind)->tp_alloc(reinterpret_cast<PyTypeObject*>(kind), 2));
    if (!view) {
        return nullptr;
    }
    PyTuple_SET_ITEM(view.get(), 0, Py_NewRef(PyTuple_GET_ITEM(part(memory, kItems), item)));
    PyTuple_SET_ITEM(view.get(), 1, identifiers.release());
    if (kind != Py_None && PyObject_SetAttr(view.get(), names().essentials, essentials) != 0) {
        return nullptr;
    }
    return view.release();
}

// Whether the path has the root path before it, as it is counted.
bool is_below_root(PyObject* scope, PyObject* path) noexcept {
    PyObject* root = PyDict_GetItemWithError(scope, names().root_path);
    if (root == nullptr) {
        return true;
    }
    if (!PyUnicode_CheckExact(root)) {
        return false;
    }
    const Py_ssize_t length = PyUnicode_GET_LENGTH(root);
    if (length == 0) {
        return true;
    }
    const Py_ssize_t rest = PyUnicode_GET_LENGTH(path) - length;
    return rest >= 0 && PyUnicode_Tailmatch(path, root, 0, length, -1) == 1 &&
           (rest == 0 || PyUnicode_READ_CHAR(path, length) == '/');
}

// Counted as the path without it: routes match both.
bool ends_with_line_feed(PyObject* path) noexcept {
    const Py_ssize_t length = PyUnicode_GET_LENGTH(path);
    return length != 0 && PyUnicode_READ_CHAR(path, length - 1) == '\n';
}

bool is_exempt(PyObject* memory) noexcept {
    PyObject* exempt = part(memory, kExempt);
    const int is_among = PySet_GET_SIZE(exempt) != 0 ? PySet_Contains(exempt, part(memory, kEndpoint)) : 0;
    if (is_among < 0) {
        // What has no hash is in no set.
        PyErr_Clear();
    }
    return is_among == 1;
}

// Which of the items a decision is about; negative with an error set when the hit was none.
Py_ssize_t item_of(PyObject* memory, PyObject* essentials) noexcept {
    const Py_ssize_t item = are_essentials(essentials) ? PyLong_AsSsize_t(PyTuple_GET_ITEM(essentials, 1)) : -1;
    if (item >= 0 && item < PyTuple_GET_SIZE(part(memory, kItems))) {
        return item;
    }
    if (PyErr_Occurred() == nullptr) {
        PyErr_SetString(PyExc_TypeError, "the hit answered no decision about one of the items");
    }
    return -1;
}

// Writes down that the request was counted, in the record that is there, or in a new one, which holds the scope itself
// where there is no holder: the caller is to close it. False with an error set.
bool note(PyObject* memory, PyObject* scope, PyObject* holder, PyObject* view, Owned& record) noexcept {
    if (!record) {
        record = Owned(reinterpret_cast<PyObject*>(new_record()));
        if (!record) {
            return false;
        }
        auto& fresh = *reinterpret_cast<Record*>(record.get());
        fresh.holder = holder == Py_None ? nullptr : PyWeakref_NewRef(holder, nullptr);
        if (fresh.holder == nullptr) {
            // Also of what stands in for a request and cannot be referred to weakly.
            PyErr_Clear();
            fresh.scope = Py_NewRef(scope);
        }
        // Of keys that cannot be compared.
        PyErr_Clear();
        if (PyDict_SetItem(scope, names().record, record.get()) != 0) {
            return false;
        }
    }
    auto& own = *reinterpret_cast<Record*>(record.get());
    put(own.method, Py_XNewRef(PyDict_GetItemWithError(scope, names().method)));
    put(own.path, Py_XNewRef(PyDict_GetItemWithError(scope, names().path)));
    put(own.done, Py_NewRef(part(memory, kDone)));
    put(own.view, Py_NewRef(view));
    put(own.reached, Py_NewRef(part(memory, kReached)));
    return true;
}

PyObject* take(PyObject* memory, PyObject* const* arguments, Py_ssize_t count) noexcept {
    if (count < 1 || count > 2 || is_exempt(memory)) {
        return undone();
    }
    const Names& known = names();
    // Whoever has a key need not be asked for the client.
    const Owned own_scope(scope_of(arguments[0], count == 2 ? nullptr : part(memory, kClient)));
    PyObject* scope = own_scope.get();
    if (scope == nullptr || !PyDict_CheckExact(scope)) {
        PyErr_Clear();
        return undone();
    }
    PyObject* holder = scope == arguments[0] ? Py_None : arguments[0];
    // Owned: the hit runs what fakes the time, and other threads meanwhile, who may empty the scope.
    Owned state(Py_XNewRef(PyDict_GetItemWithError(scope, known.state)));
    const Owned own_path(Py_XNewRef(PyDict_GetItemWithError(scope, known.path)));
    const Owned own_key(Py_XNewRef(count == 2 ? arguments[1] : peer(scope)));
    PyObject* path = own_path.get();
    PyObject* key = own_key.get();
    Owned record(Py_XNewRef(PyDict_GetItemWithError(scope, known.record)));
    if ((record &&
         (Py_TYPE(record.get()) != record_type() || !reinterpret_cast<Record*>(record.get())->is_fresh(scope))) ||
        (state && (!PyDict_CheckExact(state.get()) || PyDict_Contains(state.get(), known.complete) != 0)) ||
        !is_text(path) || ends_with_line_feed(path) || !is_below_root(scope, path) || !is_text(key) ||
        PyUnicode_GET_LENGTH(key) == 0) {
        PyErr_Clear();
        return undone();
    }
    PyObject* labels = part(memory, kLabels);
    PyObject* label = path;
    Owned whole;
    if (labels == Py_None) {
        PyObject* lead = lead_of(owned_by<Latest>(part(memory, kLatest)), path);
        whole = Owned(lead == nullptr ? nullptr : PyUnicode_Concat(lead, key));
        if (!whole) {
            return nullptr;
        }
    }
    PyObject* const hit[] = {labels == Py_None ? whole.get() : key, part(memory, kCost)};
    const Owned essentials(PyObject_Vectorcall(part(memory, kHit), hit, 2, nullptr));
    if (!essentials) {
        // What is done about that is for the general case to decide.
        if (PyErr_ExceptionMatches(part(memory, kFull)) != 0) {
            PyErr_Clear();
            return undone();
        }
        return nullptr;
    }
    const Py_ssize_t item = item_of(memory, essentials.get());
    if (item < 0) {
        return nullptr;
    }
    if (labels != Py_None) {
        label = PyTuple_GET_ITEM(labels, item);
    }
    if (PyTuple_GET_ITEM(essentials.get(), 0) != Py_True) {
        return PyTuple_Pack(3, essentials.get(), key, label);
    }
    const Owned view(view_of(memory, essentials.get(), item, key, label));
    const bool is_made = !state;
    if (is_made) {
        state = Owned(PyDict_New());
    }
    if (!view || !state || PyDict_SetItem(state.get(), known.view, view.get()) != 0 ||
        PyDict_SetItem(state.get(), known.complete, part(memory, kDone)) != 0 ||
        (is_made && PyDict_SetItem(scope, known.state, state.get()) != 0) ||
        !note(memory, scope, holder, view.get(), record)) {
        return nullptr;
    }
    return holder == Py_None ? record.release() : Py_NewRef(Py_None);
}

py::object taker(const py::object& hit, const py::object& cost, const py::tuple& items, const py::object& labels,
                 const py::object& view, const py::object& done, const py::object& prefix, const py::object& endpoint,
                 const py::set& exempt, const py::object& full, const py::object& client) {
    static PyMethodDef method = {"take", fast(&take), METH_FASTCALL, "Counts a request."};
    if (!(view.is_none() || is_kind_of_tuple(view)) ||
        !(labels.is_none() || (PyTuple_CheckExact(labels.ptr()) && py::len(labels) == items.size()))) {
        throw py::type_error("a view is a kind of tuple, and labels are one for each item");
    }
    static_cast<void>(names());
    // What is done for good was decided where the request was to go, and not on its way there.
    return closure(method, py::make_tuple(hit, cost, items, labels, view, done, prefix, endpoint, exempt, full,
                                          py::bool_(done), capsule_of(std::make_unique<Latest>()), client));
}

}  // namespace

void bind_take(py::module_& module) {
    module.def("taker", &taker, py::arg("hit"), py::arg("cost"), py::arg("items"), py::arg("labels"), py::arg("view"),
               py::arg("done"), py::arg("prefix"), py::arg("endpoint"), py::arg("exempt"), py::arg("full"),
               py::arg("client") = py::none(), py::pos_only());
}

}  // namespace slidegate::bindings
