"""The lab's nets and the user's."""
