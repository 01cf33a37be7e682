//! Lost answers, one table: each call that changes something outside, with its request lost, its answer lost after the
//! effect, a 5xx after the effect, the connection reset within a body, and a 401 (`flow.md` 6). Whatever the answer: one
//! VM, one image, one user, one organisation, one installer, and a job that ends well.
