//! A process that computes losses: the squared error, as local autoencoders have it.

use std::{
    collections::HashMap,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{AsArray, FixedSizeListArray, Float32Array, RecordBatch},
    datatypes::{Field, Float32Type, Schema},
    ipc::{reader::StreamReader, writer::StreamWriter},
};

/// Answers everybody who connects to `path`, on a thread of its own, until the test ends. Each question
/// must hold the columns `beside`.
pub fn serve(path: &Path, beside: &'static [&'static str]) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some(question) = receive(&mut stream) {
                let answer = answer(&question, beside);
                stream.write_all(&(answer.len() as u64).to_le_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        }
    });
}

fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0u8; 8];
    stream.read_exact(&mut length).ok()?;
    let mut question = vec![0u8; usize::try_from(u64::from_le_bytes(length)).unwrap()];
    stream.read_exact(&mut question).ok()?;
    Some(question)
}

fn answer(question: &[u8], beside: &[&str]) -> Vec<u8> {
    let batch = StreamReader::try_new(question, None).unwrap().next().unwrap().unwrap();
    for name in beside {
        assert_eq!(batch.column_by_name(name).unwrap().len(), batch.num_rows());
    }
    let values = |name| {
        let lists = batch.column_by_name(name).unwrap().as_fixed_size_list();
        lists.values().as_primitive::<Float32Type>().values().to_vec()
    };
    let rows = batch.num_rows() as f32;
    let e: Vec<f32> = values("x").iter().zip(values("x_hat")).map(|(x, x_hat)| x - x_hat).collect();
    let loss = e.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>() / f64::from(rows);
    let gradient = Arc::new(e.iter().map(|e| -2.0 * e / rows).collect::<Float32Array>());
    let item = Arc::new(Field::new("item", arrow::datatypes::DataType::Float32, false));
    let width = i32::try_from(e.len() / batch.num_rows()).unwrap();
    let column = FixedSizeListArray::try_new(item, width, gradient, None).unwrap();
    let field = Field::new("gradient", arrow::array::Array::data_type(&column).clone(), false);
    let metadata: HashMap<String, String> = [("loss".to_owned(), loss.to_string())].into();
    let schema = Arc::new(Schema::new_with_metadata(vec![field], metadata));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}
