"""Ten machines, managed by Ansible with the role and the playbooks of ``docs/examples``."""
