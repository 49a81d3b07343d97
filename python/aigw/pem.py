"""PEM texts: certificates, private keys, and whether a pair of them can be used.

In: bytes that the caller has read. Out: parts of them, and reasons. OpenSSL judges first, by Kong's words: it reads every certificate of a
chain, and compares a key with a certificate that workers show without reading it. Then the parser judges that workers serve with, so a
certificate that passes here is served. OpenSSL takes pairs by file name only, so a memory file holds the very bytes that are checked. No
file of a user is opened here.
"""

import hashlib
import os
import re
from typing import Final

_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEYS: Final = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


def certificates(text: bytes) -> list[bytes]:
    """The certificates of a text, in its order."""
    return _CERTIFICATES.findall(text)


def key(text: bytes) -> bytes | None:
    """The first private key of a text; None without one."""
    found = _KEYS.search(text)
    return None if found is None else found[0]


def joined(chain: list[bytes], private: bytes) -> bytes:
    """One text with certificates and their key."""
    return b"\n".join([*chain, private, b""])


def fingerprint(text: bytes) -> str:
    """SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` prints it, without colons. Raises ValueError for a text
    without a certificate."""
    import ssl  # noqa: PLC0415 - few commands need it, and it takes long to load

    found = certificates(text)
    if not found:
        raise ValueError("no certificate in PEM form")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0].decode())).hexdigest()


def wrong_pair(chain: bytes, private: bytes) -> str | None:
    """The reason why a chain and a key cannot be used together; None if they can."""
    import ssl  # noqa: PLC0415

    from aigw._native import unusable_certificate  # noqa: PLC0415 - the supervisor needs it for a pair of the settings alone

    # A file of certificates may have a key of its own, and OpenSSL would take that one.
    descriptor = memory_file(joined(certificates(chain), key(private) or private))
    try:
        # The empty password makes an encrypted key an error instead of a prompt on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, OSError) as error:
        return error.strerror or str(error)
    finally:
        os.close(descriptor)
    return unusable_certificate(chain, private)


def is_of_another(wrong: str) -> bool:
    """Whether a reason of `wrong_pair` is that the key belongs to another certificate: OpenSSL finds none beside a key of another kind."""
    return "key values mismatch" in wrong or "no certificate assigned" in wrong


def wrong_chain(text: bytes) -> str | None:
    """The reason why workers cannot show these certificates, the owner's first; None if they can."""
    from aigw._native import unusable_certificate  # noqa: PLC0415

    return _unread(text) or unusable_certificate(text)


def wrong_authorities(text: bytes) -> str | None:
    """The reason why workers cannot check upstreams by these certificates; None if they can."""
    from aigw._native import unusable_authorities  # noqa: PLC0415

    return _unread(text) or unusable_authorities(text)


def _unread(text: bytes) -> str | None:
    import ssl  # noqa: PLC0415

    if not certificates(text):
        return "there is no certificate in PEM form"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text.decode("ascii", "ignore"))
    except ssl.SSLError as error:
        return error.reason or error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return None


def authority_ends(text: str) -> float | None:
    """The unix seconds until which the certificate of a text is valid; None for a certificate that is not one of an authority. The text
    was checked by `wrong_authorities`."""
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=text)
    found = context.get_ca_certs()
    return ssl.cert_time_to_seconds(str(found[0]["notAfter"])) if found else None


def memory_file(text: bytes) -> int:
    """The descriptor of a file in memory with this text."""
    descriptor = os.memfd_create("aigw-certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text)
    return descriptor
