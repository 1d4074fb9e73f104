#include <algorithm>
#include <vector>

#include "bindings.hpp"
#include "slidegate/redis/command.hpp"
#include "slidegate/redis/reader.hpp"
#include "slidegate/redis/script.hpp"

namespace py = pybind11;

namespace slidegate::bindings {

namespace {

// Bytes of an error that a server tells, which ends in logs and in traces.
constexpr std::size_t kMostOfError = 512;

// An error that the server answers is a value among the replies; whoever waits for it may raise it.
py::object to_python(const redis::Reply& reply, const py::object& error_type) {
    switch (reply.type) {
        case redis::Reply::Type::integer:
            return py::int_(reply.integer);
        case redis::Reply::Type::text:
            return py::bytes(reply.text);
        case redis::Reply::Type::error:
            return error_type(steal(PyUnicode_DecodeUTF8(
                reply.text.data(), static_cast<Py_ssize_t>(std::min(reply.text.size(), kMostOfError)),
                "backslashreplace")));
        case redis::Reply::Type::array: {
            py::list elements(reply.elements.size());
            for (std::size_t i = 0; i < reply.elements.size(); ++i) {
                PyList_SET_ITEM(elements.ptr(), static_cast<Py_ssize_t>(i),
                                to_python(reply.elements[i], error_type).release().ptr());
            }
            return elements;
        }
        case redis::Reply::Type::nil:
            break;
    }
    return py::none();
}

std::string_view bytes_of(PyObject* argument) {
    char* bytes = nullptr;
    Py_ssize_t length = 0;
    if (PyBytes_AsStringAndSize(argument, &bytes, &length) != 0) {
        throw py::error_already_set();
    }
    return {bytes, static_cast<std::size_t>(length)};
}

}  // namespace

void bind_redis(py::module_& module) {
    py::register_exception<redis::ProtocolError>(module, "RedisProtocolError", PyExc_ConnectionError);
    const py::object error_type =
        steal(PyErr_NewException("slidegate._core.RedisReplyError", PyExc_Exception, nullptr));
    if (!error_type) {
        throw py::error_already_set();
    }
    module.attr("RedisReplyError") = error_type;
    module.attr("redis_script") = py::str(redis::script().data(), redis::script().size());
    module.attr("hiredis_version") = py::str(redis::hiredis_version().data(), redis::hiredis_version().size());
    module.def("redis_command", [](const py::args& arguments) {
        std::vector<std::string_view> views;
        views.reserve(arguments.size());
        for (const py::handle argument : arguments) {
            views.push_back(bytes_of(argument.ptr()));
        }
        if (views.empty()) {
            throw py::value_error("a command has a name at least");
        }
        return py::bytes(redis::format_command(views));
    });
    py::class_<redis::Reader> reader(module, "RedisReader", py::is_final());
    reader.def(
        "feed",
        // The GIL is kept: a few replies are parsed faster than it is given away.
        [error_type](redis::Reader& self, const py::bytes& data) {
            self.feed(bytes_of(data.ptr()));
            py::list replies;
            while (const std::optional<redis::Reply> reply = self.next()) {
                replies.append(to_python(*reply, error_type));
            }
            return replies;
        },
        py::arg("data"), py::pos_only());
    forbid_copies(reader);
    make_whole(reader, [] { return redis::Reader(); });
}

}  // namespace slidegate::bindings
