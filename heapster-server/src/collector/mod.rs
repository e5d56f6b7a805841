//! Scheduler, fan-out, processors and sink queues.
