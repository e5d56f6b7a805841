//! Batches of the generated data set GEN: 5,000 container slots on 100 nodes, 43.2 M samples.
//!
//! The generator writes raw little-endian integers, one file per metric, `[slot][time]`, one clock
//! per node in `ts.i64`, and the containers that lived in the slots in `instances.csv`. A batch
//! holds the containers of one node at one moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use heapster_core::{
    DataBatch, EntityKey, EntityType, Labels, MetricSet, MetricValue, Text, Timestamp, key, metric,
};

/// Files, metrics, and whether they count.
const COLUMNS: [(&str, &str, bool); 6] = [
    ("cpu_ns", metric::CPU_USAGE, true),
    ("mem_ws", metric::MEMORY_WORKING_SET, false),
    ("mem_rss", metric::MEMORY_RSS, false),
    ("net_rx", metric::NETWORK_RX, true),
    ("net_tx", metric::NETWORK_TX, true),
    ("fs", metric::EPHEMERAL_STORAGE_USAGE, false),
];
const SLOTS_PER_NODE: usize = 50;

/// Batches in order of time.
pub struct GeneratedBatches {
    shape: Shape,
    /// `[metric][slot * times + time]`.
    columns: Vec<Vec<i64>>,
    /// `[node * times + time]`, milliseconds.
    clocks: Vec<i64>,
    instances: Vec<Vec<Instance>>,
    /// Node and time of the batches, in order.
    order: std::vec::IntoIter<(usize, usize)>,
}

#[derive(Clone, Copy)]
struct Shape {
    slots: usize,
    times: usize,
    nodes: usize,
}

/// A container that lived in a slot.
struct Instance {
    first_time: usize,
    end_time: usize,
    entity: EntityKey,
    labels: Labels,
}

impl GeneratedBatches {
    /// Reads what the generator wrote to a folder; takes as much memory as the files.
    ///
    /// # Errors
    /// A file is missing or does not fit the others.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let shape = read_shape(&std::fs::read_to_string(folder.join("meta.txt"))?)
            .ok_or_else(|| invalid("meta.txt names no slots, times and nodes"))?;
        let clocks = read_column(&folder.join("ts.i64"), shape.nodes * shape.times)?;
        let columns = COLUMNS
            .iter()
            .map(|(file, ..)| {
                read_column(&folder.join(format!("{file}.i64")), shape.slots * shape.times)
            })
            .collect::<io::Result<_>>()?;
        let text = std::fs::read_to_string(folder.join("instances.csv"))?;
        let instances = read_instances(&text, shape.slots)?;
        let nodes = 0..shape.nodes;
        let mut order: Vec<(usize, usize)> =
            nodes.flat_map(|node| (0..shape.times).map(move |time| (node, time))).collect();
        order.sort_by_key(|(node, time)| (clocks[node * shape.times + time], *node));
        Ok(Self { shape, columns, clocks, instances, order: order.into_iter() })
    }
}

impl Iterator for GeneratedBatches {
    type Item = DataBatch;

    fn next(&mut self) -> Option<DataBatch> {
        let (node, time) = self.order.next()?;
        let at = self.clocks[node * self.shape.times + time];
        let mut batch = DataBatch::new(Timestamp::from_millis(at));
        let slots = node * SLOTS_PER_NODE..((node + 1) * SLOTS_PER_NODE).min(self.shape.slots);
        for slot in slots {
            let alive = |one: &&Instance| (one.first_time..one.end_time).contains(&time);
            let Some(instance) = self.instances[slot].iter().find(alive) else { continue };
            let mut set = MetricSet { labels: instance.labels.clone(), ..MetricSet::default() };
            for ((_, name, is_counter), column) in COLUMNS.iter().zip(&self.columns) {
                let value = column[slot * self.shape.times + time];
                let metric = if *is_counter {
                    MetricValue::cumulative(value)
                } else {
                    MetricValue::gauge(value)
                };
                set.metrics.set_static(name, metric);
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
    Some(Shape { slots: number("S=")?, times: number("T=")?, nodes: number("N=")? })
}

fn read_column(path: &Path, length: usize) -> io::Result<Vec<i64>> {
    let file = File::open(path)?;
    if file.metadata()?.len() != length as u64 * 8 {
        return Err(invalid(&format!("{} has not {length} numbers", path.display())));
    }
    let mut numbers = Vec::with_capacity(length);
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    while numbers.len() < length {
        let wanted = buffer.len().min((length - numbers.len()) * 8);
        file.read_exact_at(&mut buffer[..wanted], at)?;
        numbers.extend(buffer[..wanted].as_chunks().0.iter().map(|n| i64::from_le_bytes(*n)));
        at += wanted as u64;
    }
    Ok(numbers)
}

/// Reads `slot,start,end,namespace,pod,container,node` lines after a heading.
fn read_instances(text: &str, slots: usize) -> io::Result<Vec<Vec<Instance>>> {
    let mut instances: Vec<Vec<Instance>> = (0..slots).map(|_| Vec::new()).collect();
    for line in text.lines().skip(1) {
        let broken = || invalid(&format!("instances.csv has the line {line:?}"));
        let fields: [&str; 7] =
            line.split(',').collect::<Vec<_>>().try_into().map_err(|_| broken())?;
        let [slot, first_time, end_time, namespace, pod, container, node] = fields;
        let number = |text: &str| text.parse::<usize>().map_err(|_| broken());
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
        let instance = Instance {
            first_time: number(first_time)?,
            end_time: number(end_time)?,
            entity: EntityKey::pod_container(namespace, pod, container),
            labels,
        };
        instances.get_mut(number(slot)?).ok_or_else(broken)?.push(instance);
    }
    Ok(instances)
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
        for (index, (name, ..)) in COLUMNS.iter().enumerate() {
            let numbers: Vec<i64> = (0..102).map(|number| number + 1000 * index as i64).collect();
            write_column(path, name, &numbers);
        }
        let mut text = "slot,start,end,namespace,pod,container,node\n".to_owned();
        text += "50,0,1,n,old,c,node-1\n50,1,2,n,new,c,node-1\n0,0,2,n,p,c,node-0\n";
        std::fs::write(path.join("instances.csv"), text).unwrap();

        let batches: Vec<DataBatch> = GeneratedBatches::open(path).unwrap().collect();
        let times: Vec<i64> = batches.iter().map(|batch| batch.timestamp.as_millis()).collect();
        assert_eq!(times, [1_000, 2_000, 61_000, 62_000]);
        let set = &batches[2].sets[&EntityKey::pod_container("n", "new", "c")];
        assert_eq!(set.metrics.int(metric::CPU_USAGE), Some(101));
        assert_eq!(set.metrics.int(metric::EPHEMERAL_STORAGE_USAGE), Some(5_101));
        assert_eq!(batches[2].sets.len(), 1);
        assert!(batches[0].sets.contains_key(&EntityKey::pod_container("n", "old", "c")));

        write_column(path, "fs", &[1]);
        assert!(GeneratedBatches::open(path).is_err());
    }
}
