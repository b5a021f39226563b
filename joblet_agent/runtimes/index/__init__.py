"""Indexes: what is offered for installation, where it is, and who vouches for it.

An index is a file ``registry.json`` of the published form, on a web server or in a directory of this host.
Nothing here knows the store of runtimes; the installer (runtimes/installer.py) joins the two.
"""
