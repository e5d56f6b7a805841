//! Workloads and load tools of heapster.
