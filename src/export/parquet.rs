//! Apache Parquet: the columns of a record, compressed with Snappy.
//!
//! Records are collected for a row group, whose limits bound the memory. Every column may be null.

use std::io;
use std::sync::Arc;

use bridge_core::record::{Data, DataValue, Record, State};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::column::{CHANGE, Cell, Column, ColumnType};
use super::{ExportOutput, ExportWriter};

/// Records of a row group: enough for columns to compress well.
const GROUP_RECORDS: usize = 20_000;

/// Bytes of values in a row group.
const GROUP_BYTES: usize = 16 << 20;

/// The level of a value that is there, and of a null.
const THERE: i16 = 1;
const NULL: i16 = 0;

/// Writes row groups of records.
pub(super) struct ParquetWriter {
    file: SerializedFileWriter<ExportOutput>,
    /// The records of the next row group.
    group: Vec<Arc<Record>>,
    /// The bytes of their values.
    bytes: usize,
}

impl ParquetWriter {
    pub(super) fn new(out: ExportOutput) -> io::Result<ParquetWriter> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("zkbridge ", env!("CARGO_PKG_VERSION")).to_owned())
            // One minimum and maximum for each row group: those of each page would stay in memory until the end.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema()?), Arc::new(properties));
        Ok(ParquetWriter {
            file: file.map_err(io::Error::other)?,
            group: Vec::new(),
            bytes: 0,
        })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in CHANGE {
            write_column(&mut group, column, &self.group)?;
        }
        group.close()?;
        self.group.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn schema() -> io::Result<Type> {
    let fields: Result<Vec<_>, ParquetError> = CHANGE.iter().map(field).collect();
    let schema = fields.and_then(|fields| Type::group_type_builder("change").with_fields(fields).build());
    schema.map_err(io::Error::other)
}

fn field(column: &Column<Record>) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical) = match column.holds {
        ColumnType::Number => (PhysicalType::INT64, None),
        ColumnType::Flag => (PhysicalType::BOOLEAN, None),
        ColumnType::Time => (
            PhysicalType::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
        ),
        ColumnType::Text | ColumnType::Value => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let field = Type::primitive_type_builder(column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    Ok(Arc::new(field.build()?))
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, ExportOutput>,
    column: &Column<Record>,
    records: &[Arc<Record>],
) -> Result<(), ParquetError> {
    match column.holds {
        ColumnType::Number | ColumnType::Time => {
            write_cells::<Int64Type>(group, column, records, |cell| match cell {
                Cell::Number(number) => Some(number),
                Cell::Time(time) => Some(time.0),
                _ => None,
            })
        }
        ColumnType::Flag => write_cells::<BoolType>(group, column, records, |cell| match cell {
            Cell::Flag(flag) => Some(flag),
            _ => None,
        }),
        ColumnType::Text | ColumnType::Value => {
            write_cells::<ByteArrayType>(group, column, records, |cell| match cell {
                Cell::Text(text) => Some(bytes(&text)),
                Cell::Value(data) => Some(match data.value() {
                    DataValue::Json(document) => bytes(document.get()),
                    DataValue::Text(text) => bytes(text),
                    DataValue::Base64(text) => bytes(&text),
                }),
                _ => None,
            })
        }
    }
}

fn bytes(text: &str) -> ByteArray {
    ByteArray::from(text.as_bytes().to_vec())
}

fn write_cells<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, ExportOutput>,
    column: &Column<Record>,
    records: &[Arc<Record>],
    take: impl Fn(Cell<'_>) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::with_capacity(records.len()));
    for record in records {
        let value = take((column.cell)(record));
        levels.push(if value.is_some() { THERE } else { NULL });
        values.extend(value);
    }
    let mut out = group.next_column()?.expect("the schema has this column");
    out.typed::<T>().write_batch(&values, Some(&levels), None)?;
    out.close()
}

fn bytes_of(record: &Record) -> usize {
    let bytes = |state: &Option<State>| {
        let data: Option<&Data> = state.as_ref().and_then(|state| state.data.as_ref());
        data.map_or(0, |data| data.bytes.len())
    };
    bytes(&record.before) + bytes(&record.after)
}

impl ExportWriter for ParquetWriter {
    fn records(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        for record in records {
            self.bytes += bytes_of(record);
            self.group.push(Arc::clone(record));
            if self.group.len() >= GROUP_RECORDS || self.bytes >= GROUP_BYTES {
                self.write_group().map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_group().map_err(io::Error::other)?;
        self.file.close().map_err(io::Error::other)?;
        Ok(())
    }
}
