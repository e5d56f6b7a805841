//! Apache Parquet: one row per sample, for DuckDB, polars, pandas and Spark.
//!
//! The low-level interface of the `parquet` crate is used, so that Arrow is not needed.

mod reader;
mod writer;

pub use reader::ParquetReader;
pub use writer::ParquetWriter;

/// What is written. A sample has one of the two values; the labels are a map without order.
const SCHEMA: &str = "
message samples {
  required int64 time (TIMESTAMP(MILLIS,true));
  required binary metric (STRING);
  required binary kind (STRING);
  optional int64 value_int;
  optional double value_float;
  required group labels (MAP) {
    repeated group key_value {
      required binary key (STRING);
      required binary value (STRING);
    }
  }
}";
