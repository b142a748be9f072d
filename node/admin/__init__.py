"""What an administrator needs: is the node well, and what would it do."""
