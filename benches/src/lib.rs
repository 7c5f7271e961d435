//! Speed, measured against the kernel on the same machine in the same run.
