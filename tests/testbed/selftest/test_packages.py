from tests.testbed.packages import control_depends

CONTROL = """\
Source: thing
Build-Depends: debhelper-compat (= 13)

Package: thing-agent
Depends:
 ${misc:Depends},
 thing (= ${binary:Version}),
 dbus | dbus-broker,
# a comment
 systemd (>= 252),
Recommends: nftables

Package: thing
Depends: python3-click, ${python3:Depends}
"""


def test_depends_of_binary_packages_without_their_own() -> None:
    assert control_depends(CONTROL) == {"dbus", "systemd", "nftables", "python3-click"}
