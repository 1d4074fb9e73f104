#include "slidegate/segment/segment_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <system_error>
#include <unistd.h>

#include "slidegate/values/errors.hpp"

namespace slidegate {

namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

SegmentError no_room(const Place& place, std::uint64_t bytes, int error) {
    return SegmentError(place.name + ": cannot make " + std::to_string(bytes) + " bytes of it in " +
                        directory_of(place.path) + ": " + reason(error));
}

bool is_link(const std::string& path) {
    struct stat status{};
    return lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
}

std::string octal(mode_t mode) {
    char text[8];
    std::snprintf(text, sizeof text, "%04o", static_cast<unsigned>(mode & 07777));
    return text;
}

}  // namespace

Place Place::shared(const std::string& name) {
    const bool is_valid = !name.empty() && name.size() <= 200 && name.front() != '.' &&
                          name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                              std::string::npos;
    if (!is_valid) {
        throw InvalidArgument(
            "the name of a shared segment is 1 to 200 letters, digits, '.', '_' and '-', and does not begin "
            "with '.': not '" +
            name + "'");
    }
    return {shared_directory() + "/" + shared_prefix() + name, "shared://" + name, false};
}

Place Place::file(const std::string& path) {
    if (path.empty() || path.find('\0') != std::string::npos) {
        throw InvalidArgument("the path of a segment must not be empty or hold a zero byte");
    }
    return {path, "file://" + path, true};
}

SegmentFile::SegmentFile(int descriptor, std::string temporary)
    : descriptor_(descriptor), temporary_(std::move(temporary)) {
    struct stat status{};
    fstat(descriptor_, &status);
    device_ = status.st_dev;
    inode_ = status.st_ino;
}

SegmentFile::~SegmentFile() {
    if (!temporary_.empty()) {
        ::unlink(temporary_.c_str());
    }
    if (is_still_open()) {
        close(descriptor_);
    }
}

// Programs that become daemons close all descriptors, and open others.
bool SegmentFile::is_still_open() const noexcept {
    struct stat status{};
    return descriptor_ >= 0 && fstat(descriptor_, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

void SegmentFile::check_access(const Place& place, const Access& access) const {
    struct stat status{};
    fstat(descriptor_, &status);
    const std::string what = place.name + ": " + place.path;
    const bool is_of_group = access.group && status.st_gid == *access.group;
    if (status.st_uid != geteuid() && !access.may_be_foreign && !is_of_group) {
        throw SegmentForeign(what + " belongs to user " + std::to_string(status.st_uid) + ", and this is user " +
                             std::to_string(geteuid()) + "; use another name");
    }
    if (access.group && !is_of_group && (status.st_mode & S_IRWXG) != 0) {
        throw SegmentForeign(what + " belongs to group " + std::to_string(status.st_gid) +
                             ", and is open to it, not to " + std::to_string(*access.group));
    }
    if ((status.st_mode & (S_IRWXG | S_IRWXO) & ~access.mode) != 0) {
        throw SegmentForeign(what + " is open to other users (mode " + octal(status.st_mode) + "); it has to be " +
                             octal(access.mode) + ". If they may use it, as on a volume that is mounted so, say mode=" +
                             octal((status.st_mode | access.mode) & 0777));
    }
}

SegmentFile SegmentFile::unnamed(const Place& place, std::uint64_t bytes, const Access& access) {
    std::string temporary;
    int descriptor = open(directory_of(place.path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
    // What systems without it say; the last is that of kernels that take it for O_DIRECTORY.
    if (descriptor < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == EISDIR)) {
        temporary = place.path + ".XXXXXX";
        descriptor = mkostemp(temporary.data(), O_CLOEXEC);
    }
    if (descriptor < 0) {
        throw no_room(place, bytes, errno);
    }
    SegmentFile file(descriptor, std::move(temporary));
    if (access.group && fchown(descriptor, static_cast<uid_t>(-1), *access.group) != 0) {
        throw SegmentError(place.name + ": cannot give " + place.path + " to group " + std::to_string(*access.group) +
                           ": " + reason(errno));
    }
    // Of a mode that no umask has thinned.
    if (fchmod(descriptor, access.mode) != 0 || ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) {
        throw no_room(place, bytes, errno);
    }
    file.check_access(place, access);
    return file;
}

std::optional<SegmentFile> SegmentFile::find(const Place& place, const Access& access) {
    // Not blocking: what stands there may be a pipe that nobody writes to.
    const int descriptor =
        open(place.path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | (place.may_be_a_link ? 0 : O_NOFOLLOW));
    if (descriptor < 0) {
        switch (errno) {
            case ENOENT:
                if (is_link(place.path)) {
                    throw SegmentError(place.name + ": " + place.path +
                                       " is a link to something that is not there; make that, or remove the link");
                }
                return std::nullopt;
            case EACCES:
            case EPERM:
                throw SegmentForeign(place.name + ": this user (" + std::to_string(geteuid()) +
                                     ") may not read and write " + place.path);
            case ELOOP:
            case EISDIR:
            case ENXIO:
                throw SegmentDamaged(place.name + ": " + place.path + " is no regular file");
            default:
                throw SegmentError(place.name + ": cannot open " + place.path + ": " + reason(errno));
        }
    }
    SegmentFile file(descriptor, {});
    struct stat status{};
    fstat(descriptor, &status);
    if (!S_ISREG(status.st_mode)) {
        throw SegmentDamaged(place.name + ": " + place.path + " is no regular file");
    }
    file.check_access(place, access);
    return file;
}

bool SegmentFile::publish(const Place& place) {
    const std::string from = temporary_.empty() ? "/proc/self/fd/" + std::to_string(descriptor_) : temporary_;
    if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, place.path.c_str(), temporary_.empty() ? AT_SYMLINK_FOLLOW : 0) != 0) {
        if (errno == EEXIST) {
            return false;
        }
        throw SegmentError(place.name + ": cannot give it the name " + place.path + ": " + reason(errno));
    }
    if (!temporary_.empty()) {
        ::unlink(temporary_.c_str());
        temporary_.clear();
    }
    return true;
}

bool SegmentFile::lock(Lock how, int patience_ms) const {
    const int operation = (how == Lock::shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
    for (int waited_ms = 0;; ++waited_ms) {
        if (flock(descriptor_, operation) == 0) {
            return true;
        }
        if (waited_ms >= patience_ms || (errno != EWOULDBLOCK && errno != EINTR)) {
            return false;
        }
        const timespec millisecond = {0, 1'000'000};
        nanosleep(&millisecond, nullptr);
    }
}

bool SegmentFile::is_at(const Place& place) const noexcept {
    struct stat status{};
    return stat(place.path.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

bool SegmentFile::unlink(const Place& place) const {
    if (!is_at(place)) {
        return false;
    }
    if (::unlink(place.path.c_str()) != 0 && errno != ENOENT) {
        throw SegmentError(place.name + ": cannot remove " + place.path + ": " + reason(errno));
    }
    return true;
}

bool SegmentFile::allocate(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    if (!is_still_open()) {
        return false;
    }
    int result = 0;
    do {
        result = fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

std::optional<std::uint64_t> SegmentFile::free_bytes(const Place& place) {
    struct statvfs system{};
    if (statvfs(directory_of(place.path).c_str(), &system) != 0 || system.f_blocks == 0) {
        return std::nullopt;
    }
    return std::uint64_t{system.f_bavail} * system.f_frsize;
}

std::uint64_t SegmentFile::size() const noexcept {
    struct stat status{};
    return fstat(descriptor_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

void SegmentFile::read(void* into, std::uint64_t bytes) const noexcept {
    auto* to = static_cast<char*>(into);
    std::uint64_t done = 0;
    while (done < bytes) {
        const ssize_t size = pread(descriptor_, to + done, bytes - done, static_cast<off_t>(done));
        if (size <= 0) {
            return;
        }
        done += static_cast<std::uint64_t>(size);
    }
}

}  // namespace slidegate
