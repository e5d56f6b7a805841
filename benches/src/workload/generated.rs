//! The generated data set GEN: 5,000 container slots on 100 nodes, six columns, a day by the minute.
//!
//! The generator writes raw little-endian integers, one file per metric, `[slot][time]`, one clock
//! per node in `ts.i64`, and the containers that lived in the slots in `instances.csv`. A batch
//! holds the containers of one node at one moment.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use heapster_core::{
    DataBatch, EntityKey, EntityType, Labels, MetricSet, MetricValue, Text, Timestamp, key, metric,
};

/// A column of the data set.
#[derive(Clone, Copy, Debug)]
pub struct GeneratedColumn {
    /// Name of its file.
    pub file: &'static str,
    /// Name of its metric.
    pub metric: &'static str,
    /// Whether it counts; it begins anew with each container.
    pub is_counter: bool,
}

const fn column(file: &'static str, metric: &'static str, is_counter: bool) -> GeneratedColumn {
    GeneratedColumn { file, metric, is_counter }
}

/// The columns in the order of [`Generated::rows`].
pub const GENERATED_COLUMNS: [GeneratedColumn; 6] = [
    column("cpu_ns", metric::CPU_USAGE, true),
    column("mem_ws", metric::MEMORY_WORKING_SET, false),
    column("mem_rss", metric::MEMORY_RSS, false),
    column("net_rx", metric::NETWORK_RX, true),
    column("net_tx", metric::NETWORK_TX, true),
    column("fs", metric::EPHEMERAL_STORAGE_USAGE, false),
];
/// Containers of one node.
pub(crate) const SLOTS_PER_NODE: usize = 50;

/// The whole set in memory: 350 MB in its usual size.
#[derive(Debug)]
pub struct Generated {
    shape: Shape,
    /// `[slot * times + time]`.
    rows: Vec<[i64; GENERATED_COLUMNS.len()]>,
    /// `[node * times + time]`, milliseconds.
    clocks: Vec<i64>,
    instances: Vec<Vec<Instance>>,
}

/// How large the set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub slots: usize,
    pub times: usize,
}

impl Shape {
    pub fn nodes(self) -> usize {
        self.slots.div_ceil(SLOTS_PER_NODE)
    }
}

/// A container that lived in a slot.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Indexes of the times it was there.
    pub times: Range<usize>,
    /// What it is.
    pub entity: EntityKey,
    /// Labels of its set.
    pub labels: Labels,
}

impl Generated {
    /// Reads what the generator wrote to a folder; of its slots the first `slots_max`.
    ///
    /// # Errors
    /// A file is missing or does not fit the others.
    pub fn open(folder: &Path, slots_max: usize) -> io::Result<Self> {
        let whole = read_shape(&std::fs::read_to_string(folder.join("meta.txt"))?)
            .ok_or_else(|| invalid("meta.txt names no slots and times"))?;
        let shape = Shape { slots: whole.slots.min(slots_max), ..whole };
        let mut rows = vec![[0; GENERATED_COLUMNS.len()]; shape.slots * shape.times];
        for (index, column) in GENERATED_COLUMNS.iter().enumerate() {
            let path = folder.join(format!("{}.i64", column.file));
            let mut row = rows.iter_mut();
            read_column(&path, whole.slots * whole.times, shape.slots * shape.times, |number| {
                if let Some(row) = row.next() {
                    row[index] = number;
                }
            })?;
        }
        let mut clocks = Vec::with_capacity(shape.nodes() * shape.times);
        let (all, wanted) = (whole.nodes() * whole.times, shape.nodes() * shape.times);
        read_column(&folder.join("ts.i64"), all, wanted, |number| clocks.push(number))?;
        let text = std::fs::read_to_string(folder.join("instances.csv"))?;
        let mut instances = read_instances(&text, whole.slots)?;
        instances.truncate(shape.slots);
        Ok(Self { shape, rows, clocks, instances })
    }

    pub(crate) fn from_parts(
        shape: Shape,
        rows: Vec<[i64; GENERATED_COLUMNS.len()]>,
        clocks: Vec<i64>,
        instances: Vec<Vec<Instance>>,
    ) -> Self {
        Self { shape, rows, clocks, instances }
    }

    /// How many containers there are at a time.
    pub fn slots(&self) -> usize {
        self.shape.slots
    }

    /// How many times there are.
    pub fn times(&self) -> usize {
        self.shape.times
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.rows.len() as u64 * GENERATED_COLUMNS.len() as u64
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.instances.iter().map(Vec::len).sum::<usize>() * GENERATED_COLUMNS.len()
    }

    /// The containers that lived in a slot, in the order of time.
    pub fn instances(&self, slot: usize) -> &[Instance] {
        &self.instances[slot]
    }

    /// The times of a slot, milliseconds.
    pub fn clock(&self, slot: usize) -> &[i64] {
        let start = slot / SLOTS_PER_NODE * self.shape.times;
        &self.clocks[start..start + self.shape.times]
    }

    /// The values of a slot, by time and column.
    pub fn rows(&self, slot: usize) -> &[[i64; GENERATED_COLUMNS.len()]] {
        let start = slot * self.shape.times;
        &self.rows[start..start + self.shape.times]
    }

    /// The batches in order of time, with the columns whose numbers are in `columns`.
    pub fn batches(&self, columns: Range<usize>) -> GeneratedBatches<'_> {
        let nodes = 0..self.shape.nodes();
        let mut order: Vec<(usize, usize)> =
            nodes.flat_map(|node| (0..self.shape.times).map(move |time| (node, time))).collect();
        order.sort_by_key(|(node, time)| (self.clocks[node * self.shape.times + time], *node));
        GeneratedBatches { data: self, columns, order: order.into_iter() }
    }
}

/// Batches in order of time; see [`Generated::batches`].
pub struct GeneratedBatches<'a> {
    data: &'a Generated,
    columns: Range<usize>,
    /// Node and time of the batches, in order.
    order: std::vec::IntoIter<(usize, usize)>,
}

impl Iterator for GeneratedBatches<'_> {
    type Item = DataBatch;

    fn next(&mut self) -> Option<DataBatch> {
        let (node, time) = self.order.next()?;
        let data = self.data;
        let at = data.clocks[node * data.shape.times + time];
        let mut batch = DataBatch::new(Timestamp::from_millis(at));
        for slot in node * SLOTS_PER_NODE..((node + 1) * SLOTS_PER_NODE).min(data.shape.slots) {
            let alive = |one: &&Instance| one.times.contains(&time);
            let Some(instance) = data.instances[slot].iter().find(alive) else { continue };
            let row = data.rows(slot)[time];
            let mut set = MetricSet { labels: instance.labels.clone(), ..MetricSet::default() };
            for index in self.columns.clone() {
                let column = GENERATED_COLUMNS[index];
                let metric = if column.is_counter {
                    MetricValue::cumulative(row[index])
                } else {
                    MetricValue::gauge(row[index])
                };
                set.metrics.set_static(column.metric, metric);
            }
            batch.sets.insert(instance.entity.clone(), set);
        }
        Some(batch)
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads `S=5000 T=1440 N=100 …`.
fn read_shape(text: &str) -> Option<Shape> {
    let number = |name: &str| {
        let word = text.split_whitespace().find_map(|word| word.strip_prefix(name))?;
        word.parse::<usize>().ok().filter(|number| (1..=1_000_000).contains(number))
    };
    Some(Shape { slots: number("S=")?, times: number("T=")? })
}

/// Reads the first `wanted` of a file of `length` numbers.
fn read_column(
    path: &Path,
    length: usize,
    wanted: usize,
    mut take: impl FnMut(i64),
) -> io::Result<()> {
    let file = File::open(path)?;
    if file.metadata()?.len() != length as u64 * 8 {
        return Err(invalid(&format!("{} has not {length} numbers", path.display())));
    }
    let mut buffer = vec![0; 1 << 16];
    let (mut at, end) = (0, wanted as u64 * 8);
    while at < end {
        let part = (end - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..part], at)?;
        buffer[..part].as_chunks().0.iter().for_each(|bytes| take(i64::from_le_bytes(*bytes)));
        at += part as u64;
    }
    Ok(())
}

/// Reads `slot,start,end,namespace,pod,container,node` lines after a heading.
fn read_instances(text: &str, slots: usize) -> io::Result<Vec<Vec<Instance>>> {
    let mut instances: Vec<Vec<Instance>> = (0..slots).map(|_| Vec::new()).collect();
    for line in text.lines().skip(1) {
        let broken = || invalid(&format!("instances.csv has the line {line:?}"));
        let fields: [&str; 7] =
            line.split(',').collect::<Vec<_>>().try_into().map_err(|_| broken())?;
        let [slot, start, end, namespace, pod, container, node] = fields;
        let number = |text: &str| text.parse::<usize>().map_err(|_| broken());
        let times = number(start)?..number(end)?;
        let instance = Instance::new(times, namespace, pod, container, node);
        instances.get_mut(number(slot)?).ok_or_else(broken)?.push(instance);
    }
    Ok(instances)
}

impl Instance {
    pub(crate) fn new(
        times: Range<usize>,
        namespace: &str,
        pod: &str,
        container: &str,
        node: &str,
    ) -> Self {
        let mut labels = Labels::new();
        labels.set_static(key::TYPE, EntityType::PodContainer.as_str());
        for (name, value) in [
            (key::NAMESPACE_NAME, namespace),
            (key::POD_NAME, pod),
            (key::CONTAINER_NAME, container),
            (key::NODENAME, node),
        ] {
            labels.set_static(name, Text::from(value));
        }
        Self { times, entity: EntityKey::pod_container(namespace, pod, container), labels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_column(folder: &Path, name: &str, numbers: &[i64]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{name}.i64")), bytes).unwrap();
    }

    #[test]
    fn batches_go_by_time_and_slots_change_their_containers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("meta.txt"), "S=51 T=2 N=2 STEP=60\n").unwrap();
        // The second node's clock runs ahead of the first's.
        write_column(path, "ts", &[2_000, 62_000, 1_000, 61_000]);
        for (index, column) in GENERATED_COLUMNS.iter().enumerate() {
            let numbers: Vec<i64> = (0..102).map(|number| number + 1000 * index as i64).collect();
            write_column(path, column.file, &numbers);
        }
        let mut text = "slot,start,end,namespace,pod,container,node\n".to_owned();
        text += "50,0,1,n,old,c,node-1\n50,1,2,n,new,c,node-1\n0,0,2,n,p,c,node-0\n";
        std::fs::write(path.join("instances.csv"), text).unwrap();

        let data = Generated::open(path, usize::MAX).unwrap();
        assert_eq!((data.slots(), data.samples(), data.series()), (51, 612, 18));
        let batches: Vec<DataBatch> = data.batches(0..6).collect();
        let times: Vec<i64> = batches.iter().map(|batch| batch.timestamp.as_millis()).collect();
        assert_eq!(times, [1_000, 2_000, 61_000, 62_000]);
        let set = &batches[2].sets[&EntityKey::pod_container("n", "new", "c")];
        assert_eq!(set.metrics.int(metric::CPU_USAGE), Some(101));
        assert_eq!(set.metrics.int(metric::EPHEMERAL_STORAGE_USAGE), Some(5_101));
        assert_eq!(batches[2].sets.len(), 1);
        assert!(batches[0].sets.contains_key(&EntityKey::pod_container("n", "old", "c")));

        let fewer = Generated::open(path, 3).unwrap();
        assert_eq!((fewer.slots(), fewer.clock(2)), (3, &[2_000, 62_000][..]));
        assert_eq!(fewer.rows(1)[1], [3, 1003, 2003, 3003, 4003, 5003]);
        let one = fewer.batches(4..5).next().unwrap();
        assert_eq!(one.sets.values().next().unwrap().metrics.len(), 1);

        write_column(path, "fs", &[1]);
        assert!(Generated::open(path, usize::MAX).is_err());
    }
}
