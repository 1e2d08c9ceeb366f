"""What a file has besides its content, given to the file that takes its place: mode, owner, attributes, ACL."""

import errno
import os
import stat
import struct

_COPIED_ATTRIBUTES = ("user.", "system.posix_acl_access")  # not capabilities: a write takes them away, as in place
_ACL = "system.posix_acl_access"
_DEFAULT_ACL = "system.posix_acl_default"
_ACL_ENTRY = struct.Struct("<HHI")
"""Tag, permissions, id; a version of 4 bytes comes before the first."""
_OWNER, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20
_UMASK = os.umask(0o077)
os.umask(_UMASK)


def give_metadata(fd: int, present: int | None, folder_fd: int) -> None:
    """Give the file `fd` what the present one has; with none, what any new file in that folder gets."""
    if present is None:
        if _DEFAULT_ACL in _names(folder_fd):
            os.setxattr(fd, _ACL, _for_new_file(os.getxattr(folder_fd, _DEFAULT_ACL)))
        else:
            os.fchmod(fd, 0o666 & ~_UMASK)
        return
    old = os.fstat(present)
    mine = os.fstat(fd)
    if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(fd, old.st_uid, old.st_gid)
    give_attributes(fd, present)
    # Without setuid and setgid: the kernel takes them away from a file that is written in place, too.
    os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o1777)


def give_attributes(fd: int, present: int) -> None:
    """Make the copied attributes of `fd` those of `present`, the ACL among them."""
    wanted = {name for name in _names(present) if name.startswith(_COPIED_ATTRIBUTES)}
    for name in _names(fd):
        if name.startswith(_COPIED_ATTRIBUTES) and name not in wanted:
            os.removexattr(fd, name)
    for name in wanted:
        os.setxattr(fd, name, os.getxattr(present, name))


def _names(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return []  # this file system has none
        raise


def _for_new_file(default: bytes) -> bytes:
    """What the kernel makes of a default ACL for a file created with mode 0666: the umask has no say."""
    entries = list(_ACL_ENTRY.iter_unpack(default[4:]))
    limited = {_OWNER, _OTHER, _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP}
    packed = (_ACL_ENTRY.pack(tag, rights & 6 if tag in limited else rights, who) for tag, rights, who in entries)
    return default[:4] + b"".join(packed)
