//! Undo of the real steps: twice is the same as once, and evidence comes first.
