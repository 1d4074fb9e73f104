// The file behind a named segment: made whole or not at all, and locked for as long as somebody uses it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace slidegate {

/// Where a named segment lies, and what to call it in an error.
struct Place {
    std::string path;
    std::string name;            ///< as its user wrote it
    bool may_be_a_link = false;  ///< whether the path may lead elsewhere; in a directory that all may write to, never

    /// POSIX shared memory, as shm_open(3) has it on Linux: a file in /dev/shm. Throws InvalidArgument for a name that is
    /// not 1 to 200 letters, digits, '.', '_' or '-', or begins with '.'.
    [[nodiscard]] static Place shared(const std::string& name);
    /// The directory of shared memory, and how the names of all segments in it begin.
    [[nodiscard]] static std::string shared_directory() { return "/dev/shm"; }
    [[nodiscard]] static std::string shared_prefix() { return "slidegate."; }
    /// Throws InvalidArgument for an empty path.
    [[nodiscard]] static Place file(const std::string& path);
};

/// Who may have written to the file of a segment. By default this user alone.
struct Access {
    /// Of a new file; and the only permissions that one which is there may give.
    std::uint32_t mode = 0600;
    /// Of a new file; and of one that is there, if its group may use it, whoever made it.
    std::optional<std::uint32_t> group = {};
    /// Whether any other user's will do; only one with the rights to it can say so.
    bool may_be_foreign = false;
};

/// An open regular file. Movable. Its lock is flock(2): the system drops it when the last process that holds the
/// file (forked children included) has ended, however it ended. So a lock tells who is using it, and cannot be left behind.
class SegmentFile {
  public:
    enum class Lock { shared, exclusive };

    /// A file of `bytes` zeroes that nobody can find yet: without a name where the file system can (O_TMPFILE), else under
    /// a temporary one. Throws SegmentForeign when it gets other permissions than it is to have, and SegmentError.
    [[nodiscard]] static SegmentFile unnamed(const Place& place, std::uint64_t bytes, const Access& access);
    /// The file that is there, if there is one. Throws SegmentForeign for one that others may have written to, or may read,
    /// than those of `access`; SegmentDamaged when it is no regular file; SegmentError, also for a link that leads nowhere.
    [[nodiscard]] static std::optional<SegmentFile> find(const Place& place, const Access& access);

    /// Bytes that this user may still take in its directory; empty when the file system does not say.
    [[nodiscard]] static std::optional<std::uint64_t> free_bytes(const Place& place);

    SegmentFile(SegmentFile&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)),
          device_(other.device_),
          inode_(other.inode_),
          temporary_(std::exchange(other.temporary_, {})) {}
    SegmentFile& operator=(SegmentFile&&) = delete;
    ~SegmentFile();

    /// Gives it its name. False when something bears it already. Throws SegmentError.
    [[nodiscard]] bool publish(const Place& place);
    /// Takes the lock, in place of the one that it holds, which may be lost. False when others held theirs for as long as
    /// `patience_ms`. A file that has lost its name meanwhile is locked all the same.
    [[nodiscard]] bool lock(Lock how, int patience_ms) const;
    /// Whether the name leads to this very file.
    [[nodiscard]] bool is_at(const Place& place) const noexcept;
    /// Takes its name away, when it still has it. False when it has not. Throws SegmentError when it must not.
    bool unlink(const Place& place) const;
    /// Makes the system promise memory or disk for a part, so that touching it cannot end in SIGBUS later. What is there
    /// already stays as it is. False when there is no room, or the descriptor has become another file's.
    [[nodiscard]] bool allocate(std::uint64_t offset, std::uint64_t bytes) const noexcept;
    /// Bytes of it, now.
    [[nodiscard]] std::uint64_t size() const noexcept;
    /// Reads from its start; what lies beyond its end is left as it is.
    void read(void* into, std::uint64_t bytes) const noexcept;
    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

  private:
    SegmentFile(int descriptor, std::string temporary);
    [[nodiscard]] bool is_still_open() const noexcept;
    void check_access(const Place& place, const Access& access) const;

    int descriptor_;
    std::uint64_t device_ = 0;
    std::uint64_t inode_ = 0;
    std::string temporary_;  ///< a path to take away again; empty when there is none
};

}  // namespace slidegate
