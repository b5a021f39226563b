"""Everything that speaks with systemd: D-Bus, journal, readiness."""

import sys

# dbus-next offers GLib's main loop too, if ``gi`` can be imported: 5 MB that the agent never uses.
if "dbus_next" not in sys.modules:
    sys.modules["gi"] = None  # type: ignore[assignment]  # an import of it fails, which dbus-next expects
    import dbus_next  # noqa: F401

    del sys.modules["gi"]
