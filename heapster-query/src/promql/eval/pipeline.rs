//! [`Pipeline`]: a source of series, what is done to each by itself, and running it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use heapster_core::Text;

use super::super::functions::{self, DatePart};
use super::super::grid::{ABSENT, Grid, is_present};
use super::super::key::Key;
use super::super::language::ast::{Op, Span};
use super::super::meter::{Held, Meter};
use super::super::plan::{self, Map, OverFunction, Scalar, Select, Vector, Window};
use super::column::{self, Scratch};
use super::source::{self, Source, Sources};
use super::table::{Series, Table, has_values};
use super::window::{self, Windows};
use super::{Evaluator, aggregate, histogram, join, relabel};
use crate::error::QueryError;

/// Series that a thread works through at once. Fixed, since sums depend on where they are cut.
const BLOCK_SERIES: usize = 128;

/// Takes the series of a pipeline, one at a time.
pub(super) trait Consumer: Sync {
    /// What becomes of a block of series.
    type Part: Send;

    /// Begins a block.
    fn begin(&self) -> Result<Self::Part, QueryError>;

    /// Takes the series of that number, which has a value at some step. Making its key costs something.
    fn take(
        &self,
        part: &mut Self::Part,
        index: usize,
        keyed: &dyn Keyed,
        values: &[f64],
    ) -> Result<(), QueryError>;
}

/// What has labels, which are made when asked for.
pub(super) trait Keyed {
    fn key(&self) -> Key;

    /// Of the labels, those of a list.
    fn key_of(&self, list: &[Text]) -> Key {
        self.key().only(list)
    }
}

impl Keyed for Series {
    fn key(&self) -> Key {
        self.key.clone()
    }
}

/// A series of a pipeline.
struct Numbered<'p, 'a> {
    pipeline: &'p Pipeline<'a>,
    index: usize,
}

impl Keyed for Numbered<'_, '_> {
    fn key(&self) -> Key {
        self.pipeline.key(self.index)
    }

    fn key_of(&self, list: &[Text]) -> Key {
        match &self.pipeline.leaf {
            Leaf::Latest { sources, .. } | Leaf::Over { sources, .. } => {
                let mut key = sources.list[self.index].key_of(list);
                key.name = key.name.filter(|_| !self.pipeline.drops_name);
                key
            }
            _ => self.key().only(list),
        }
    }
}

/// Series, made when asked for.
pub(super) struct Pipeline<'a> {
    evaluator: Evaluator<'a>,
    grid: Grid,
    leaf: Leaf<'a>,
    stages: Vec<Stage>,
    drops_name: bool,
}

enum Leaf<'a> {
    /// The newest sample of each step, or its time.
    Latest {
        sources: Sources,
        windows: Windows,
        wants_time: bool,
    },
    /// A function of columns.
    Over {
        sources: Sources,
        over: OverLeaf,
    },
    /// A function of the windows of a table.
    OverTable {
        table: Table<'a>,
        inner: Grid,
        over: OverLeaf,
    },
    Table(Table<'a>),
}

struct OverLeaf {
    function: OverFunction,
    windows: Windows,
    params: Option<Vec<f64>>,
    span: Span,
}

impl OverLeaf {
    fn with<'b>(&'b self, meter: &'b Meter) -> column::Over<'b> {
        let Self { function, windows, params, .. } = self;
        column::Over { function: *function, windows: *windows, params: params.as_deref(), meter }
    }
}

/// What is done to the values of a series, in place.
enum Stage {
    Negate,
    Math(fn(f64) -> f64),
    Date(DatePart),
    Round(Vec<f64>),
    Clamp { min: Option<Vec<f64>>, max: Option<Vec<f64>> },
    WithScalar { op: Op, scalar: Vec<f64>, scalar_is_left: bool, returns_bool: bool },
    StepTime(Grid),
}

impl<'a> Evaluator<'a> {
    /// Prepares to evaluate a vector: finds what is read, evaluates what is not done series by series.
    pub(super) fn pipeline(&self, vector: &Vector, grid: Grid) -> Result<Pipeline<'a>, QueryError> {
        self.meter.check()?;
        match vector {
            Vector::Select(select) => self.latest(select, grid, false),
            Vector::SampleTime(select) => {
                let pipeline = self.latest(select, grid, true)?;
                let one_name = select.name.is_some();
                pipeline.drop_name(one_name, false)
            }
            Vector::Over(over) => self.over(over, grid),
            Vector::Map { map, of } => {
                let mut pipeline = self.pipeline(of, grid)?;
                let stage = self.stage(map, grid)?;
                pipeline.stages.push(stage);
                if map.drops_name() {
                    let one_name = pipeline.has_one_name();
                    return pipeline.drop_name(one_name, false);
                }
                Ok(pipeline)
            }
            Vector::StepTime(of) => {
                let mut pipeline = self.pipeline(of, grid)?;
                pipeline.stages.push(Stage::StepTime(grid));
                let one_name = pipeline.has_one_name();
                pipeline.drop_name(one_name, false)
            }
            _ => Ok(self.of_table(self.whole(vector, grid)?, grid)),
        }
    }

    /// Evaluates what is not done series by series.
    fn whole(&self, vector: &Vector, grid: Grid) -> Result<Table<'a>, QueryError> {
        match vector {
            Vector::OfScalar(scalar) => {
                let mut table = Table::empty(self.meter)?;
                table.push(Key::default(), self.scalar(scalar, grid)?)?;
                Ok(table)
            }
            Vector::Absent { of, labels } => {
                let present = self.pipeline(of, grid)?.presence()?;
                self.absent(&present, labels)
            }
            Vector::AbsentOver { of, labels } => {
                let span = Span::at(0);
                let present = OverFunction::Present;
                let present = self.over_window(present, None, of, span, grid)?.presence()?;
                self.absent(&present, labels)
            }
            Vector::Aggregate(aggregate) => aggregate::evaluate(self, aggregate, grid),
            Vector::Join(join) => join::evaluate(self, join, grid),
            Vector::Relabel { relabel, of } => relabel::evaluate(self.table(of, grid)?, relabel),
            Vector::Sort { descending, of } => {
                let mut table = self.table(of, grid)?;
                sort(&mut table.series, *descending);
                Ok(table)
            }
            Vector::Histogram(histogram) => histogram::evaluate(self, histogram, grid),
            Vector::Once(of) => self.table(of, Grid::at(grid.start_ms))?.repeat(grid.count),
            // Done series by series.
            _ => self.pipeline(vector, grid)?.into_table(),
        }
    }

    fn absent(&self, present: &[bool], labels: &Key) -> Result<Table<'a>, QueryError> {
        let mut table = Table::empty(self.meter)?;
        if present.iter().all(|present| *present) {
            return Ok(table);
        }
        let values = present.iter().map(|present| if *present { ABSENT } else { 1.0 });
        table.push(labels.clone(), values.collect())?;
        Ok(table)
    }

    fn of_table(&self, table: Table<'a>, grid: Grid) -> Pipeline<'a> {
        self.of_leaf(Leaf::Table(table), grid)
    }

    fn of_leaf(&self, leaf: Leaf<'a>, grid: Grid) -> Pipeline<'a> {
        Pipeline { evaluator: *self, grid, leaf, stages: Vec::new(), drops_name: false }
    }

    fn latest(
        &self,
        select: &Select,
        grid: Grid,
        wants_time: bool,
    ) -> Result<Pipeline<'a>, QueryError> {
        let windows = Windows { grid, shift: select.shift, range_ms: select.lookback_ms };
        let (first, last) = windows.bounds();
        let sources = source::find(self, select, first, last)?;
        Ok(self.of_leaf(Leaf::Latest { sources, windows, wants_time }, grid))
    }

    fn over(&self, over: &plan::Over, grid: Grid) -> Result<Pipeline<'a>, QueryError> {
        let params = over.param.as_ref().map(|param| self.scalar(param, grid)).transpose()?;
        self.over_window(over.function, params, &over.of, over.span, grid)
    }

    fn over_window(
        &self,
        function: OverFunction,
        params: Option<Vec<f64>>,
        window: &Window,
        span: Span,
        grid: Grid,
    ) -> Result<Pipeline<'a>, QueryError> {
        let windows = Windows { grid, shift: window.shift(), range_ms: window.range_ms() };
        let over = OverLeaf { function, windows, params, span };
        let leaf = match window {
            Window::Select { select, .. } => {
                let (first, last) = windows.bounds();
                let sources = source::find(self, select, first, last)?;
                Leaf::Over { sources, over }
            }
            Window::Subquery { .. } => match window::inner_table(self, window, windows)? {
                Some((table, inner)) => Leaf::OverTable { table, inner, over },
                None => Leaf::Table(Table::empty(self.meter)?),
            },
        };
        let pipeline = self.of_leaf(leaf, grid);
        if function.drops_name() {
            let one_name = pipeline.has_one_name();
            return pipeline.drop_name(one_name, true);
        }
        Ok(pipeline)
    }

    fn stage(&self, map: &Map, grid: Grid) -> Result<Stage, QueryError> {
        let scalar = |scalar: &Scalar| self.scalar(scalar, grid);
        let optional = |bound: &Option<Scalar>| bound.as_ref().map(scalar).transpose();
        Ok(match map {
            Map::Negate => Stage::Negate,
            Map::Math(function) => Stage::Math(*function),
            Map::Date(part) => Stage::Date(*part),
            Map::Round(to) => Stage::Round(scalar(to)?),
            Map::Clamp { min, max } => Stage::Clamp { min: optional(min)?, max: optional(max)? },
            Map::WithScalar { op, scalar: of, scalar_is_left, returns_bool } => Stage::WithScalar {
                op: *op,
                scalar: scalar(of)?,
                scalar_is_left: *scalar_is_left,
                returns_bool: *returns_bool,
            },
        })
    }
}

/// Sorts by the only step's value, NaN last; with several steps the order does not matter.
fn sort(series: &mut [Series], descending: bool) {
    let of = |series: &Series| series.values.first().copied().filter(|value| is_present(*value));
    series.sort_by(|a, b| {
        let (a, b) = (of(a).unwrap_or(f64::NAN), of(b).unwrap_or(f64::NAN));
        match (a.is_nan(), b.is_nan()) {
            (false, false) if descending => b.total_cmp(&a),
            (false, false) => a.total_cmp(&b),
            (a, b) => a.cmp(&b),
        }
    });
}

impl Stage {
    fn apply(&self, values: &mut [f64]) {
        let each = |values: &mut [f64], function: &dyn Fn(usize, f64) -> f64| {
            for (step, value) in values.iter_mut().enumerate() {
                if is_present(*value) {
                    *value = function(step, *value);
                }
            }
        };
        match self {
            Self::Negate => each(values, &|_, value| -value),
            Self::Math(function) => each(values, &|_, value| function(value)),
            Self::Date(part) => each(values, &|_, value| part.of(value)),
            Self::Round(to) => each(values, &|step, value| functions::round(value, to[step])),
            Self::Clamp { min, max } => each(values, &|step, value| {
                let at = |bound: &Option<Vec<f64>>| bound.as_ref().map(|bound| bound[step]);
                match (at(min), at(max)) {
                    (Some(min), Some(max)) if min > max => ABSENT,
                    (min, max) => functions::clamp(value, min, max),
                }
            }),
            Self::WithScalar { op, scalar, scalar_is_left, returns_bool } => {
                each(values, &|step, value| {
                    let scalar = scalar[step];
                    let (a, b) = if *scalar_is_left { (scalar, value) } else { (value, scalar) };
                    // A comparison that filters keeps the vector's value, whichever side it is on.
                    match op.is_comparison() && !returns_bool {
                        true if functions::compare(*op, a, b) => value,
                        true => ABSENT,
                        false => functions::binary(*op, a, b),
                    }
                });
            }
            Self::StepTime(grid) => each(values, &|step, _| grid.time_ms(step) as f64 / 1000.0),
        }
    }
}

impl<'a> Pipeline<'a> {
    /// Whether all series are known to have the same name, or none.
    fn has_one_name(&self) -> bool {
        self.drops_name
            || match &self.leaf {
                Leaf::Latest { sources, .. } | Leaf::Over { sources, .. } => sources.one_name,
                Leaf::OverTable { table, .. } | Leaf::Table(table) => {
                    table.series.windows(2).all(|two| two[0].key.name == two[1].key.name)
                }
            }
    }

    /// Drops the name of each series. Where that makes the same of different series, they are merged
    /// at once, since what comes later cannot tell them apart.
    fn drop_name(mut self, one_name: bool, whole: bool) -> Result<Self, QueryError> {
        self.drops_name = true;
        if one_name {
            return Ok(self);
        }
        let (evaluator, grid) = (self.evaluator, self.grid);
        Ok(evaluator.of_table(self.into_table()?.merge(whole)?, grid))
    }

    /// All series in memory.
    pub fn into_table(self) -> Result<Table<'a>, QueryError> {
        if let Leaf::Table(table) = self.leaf {
            let mut table = table;
            for series in &mut table.series {
                self.stages.iter().for_each(|stage| stage.apply(&mut series.values));
                if self.drops_name {
                    series.key.name = None;
                }
            }
            table.series.retain(|series| has_values(&series.values));
            return Ok(table);
        }
        // Sets differ by what is stored, which may be more than what is seen of it.
        let is_changed = match &self.leaf {
            Leaf::Latest { sources, .. } | Leaf::Over { sources, .. } => {
                sources.list.len() > 1 && sources.list.iter().any(|source| !source.is_seen_whole())
            }
            _ => false,
        };
        let collect = Collect { evaluator: self.evaluator };
        let mut table = Table::empty(self.evaluator.meter)?;
        for (series, held) in self.run(&collect)? {
            table.series.extend(series);
            table.held.join(held);
        }
        if is_changed { table.merge(false) } else { Ok(table) }
    }

    /// Whether any series has a value, for each step.
    fn presence(&self) -> Result<Vec<bool>, QueryError> {
        let mut all = vec![false; self.grid.count];
        for part in self.run(&Presence { count: self.grid.count })? {
            all.iter_mut().zip(part).for_each(|(all, own)| *all |= own);
        }
        Ok(all)
    }

    /// Shows all series to a consumer, block by block; gives the parts in the order of blocks.
    pub fn run<C: Consumer>(&self, consumer: &C) -> Result<Vec<C::Part>, QueryError> {
        let count = self.len();
        let blocks = count.div_ceil(BLOCK_SERIES);
        let threads = self.evaluator.threads.min(blocks.div_ceil(self.blocks_of_a_thread())).max(1);
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(blocks));
        let work = || {
            let mut scratch = Scratch::default();
            loop {
                let block = next.fetch_add(1, Ordering::Relaxed);
                if block >= blocks {
                    break;
                }
                let first = block * BLOCK_SERIES;
                let part =
                    self.block(first..count.min(first + BLOCK_SERIES), consumer, &mut scratch);
                if part.is_err() {
                    // No further block is begun; earlier ones end, so the first error is found.
                    next.store(blocks, Ordering::Relaxed);
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).push((block, part));
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(block, _)| *block);
        done.into_iter().map(|(_, part)| part).collect()
    }

    /// So many blocks take longer than beginning a thread.
    fn blocks_of_a_thread(&self) -> usize {
        match &self.leaf {
            Leaf::Latest { .. } if self.grid.count == 1 => 8,
            _ => 1,
        }
    }

    fn len(&self) -> usize {
        match &self.leaf {
            Leaf::Latest { sources, .. } | Leaf::Over { sources, .. } => sources.list.len(),
            Leaf::OverTable { table, .. } | Leaf::Table(table) => table.series.len(),
        }
    }

    fn block<C: Consumer>(
        &self,
        series: std::ops::Range<usize>,
        consumer: &C,
        scratch: &mut Scratch,
    ) -> Result<C::Part, QueryError> {
        let _held = self.evaluator.meter.hold_scratch(self.grid.count)?;
        let mut part = consumer.begin()?;
        let mut values = vec![ABSENT; self.grid.count];
        for index in series {
            values.fill(ABSENT);
            self.fill(index, scratch, &mut values)?;
            if !has_values(&values) {
                continue;
            }
            self.annotate(index, &values);
            self.stages.iter().for_each(|stage| stage.apply(&mut values));
            if has_values(&values) {
                consumer.take(&mut part, index, &Numbered { pipeline: self, index }, &values)?;
            }
        }
        Ok(part)
    }

    /// The labels of a series.
    pub fn key(&self, index: usize) -> Key {
        let mut key = match &self.leaf {
            Leaf::Latest { sources, .. } | Leaf::Over { sources, .. } => sources.list[index].key(),
            Leaf::OverTable { table, .. } | Leaf::Table(table) => table.series[index].key.clone(),
        };
        if self.drops_name {
            key.name = None;
        }
        key
    }

    /// Evaluates the source of one series.
    fn fill(&self, index: usize, scratch: &mut Scratch, out: &mut [f64]) -> Result<(), QueryError> {
        let meter = self.evaluator.meter;
        match &self.leaf {
            Leaf::Latest { sources, windows, wants_time } => {
                let Source { set, column, view, .. } = &sources.list[index];
                if out.len() == 1 {
                    meter.touch(1)?;
                    if let Some(value) = column::newest(set.last(*column)?, *wants_time) {
                        out[0] = value;
                    }
                } else {
                    let mut cursor = set.read(*column);
                    column::latest(&mut *cursor, windows, *wants_time, meter, scratch, out)?;
                }
                if let Some(view) = view.as_ref().filter(|_| !wants_time) {
                    scale(out, view.scale());
                }
            }
            Leaf::Over { sources, over } => {
                let Source { set, column, view, .. } = &sources.list[index];
                over.with(meter).column(&mut *set.read(*column), scratch, out)?;
                if let Some(view) = view {
                    scale(out, over.function.scaled_by(view.scale()));
                }
            }
            Leaf::OverTable { table, inner, over } => {
                meter.touch(inner.count)?;
                let values = table.series[index].values.iter().enumerate();
                let samples = values
                    .filter(|(_, value)| is_present(**value))
                    .map(|(step, value)| (inner.time_ms(step), *value));
                over.with(meter).samples(samples, scratch, out)?;
            }
            Leaf::Table(table) => out.copy_from_slice(&table.series[index].values),
        }
        Ok(())
    }

    /// Notes what users should know of a function of windows.
    fn annotate(&self, index: usize, values: &[f64]) {
        let (over, annotations) = match &self.leaf {
            Leaf::Over { over, .. } | Leaf::OverTable { over, .. } => {
                (over, self.evaluator.annotations)
            }
            _ => return,
        };
        match over.function {
            OverFunction::Quantile => {
                let params = over.params.as_deref().unwrap_or_default();
                for (param, _) in params.iter().zip(values).filter(|(_, value)| is_present(**value))
                {
                    if !(0.0..=1.0).contains(param) {
                        annotations.quantile_out_of_range(*param, over.span);
                    }
                }
            }
            OverFunction::Rate | OverFunction::Increase => match &self.leaf {
                Leaf::Over { sources, .. } => {
                    let source = &sources.list[index];
                    if !source.is_counter() {
                        annotations.may_be_no_counter(&source.name, over.span);
                    }
                }
                Leaf::OverTable { table, .. } => {
                    if let Some(name) = &table.series[index].key.name
                        && !source::is_counter_name(name)
                    {
                        annotations.may_be_no_counter(name, over.span);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}

fn scale(values: &mut [f64], factor: f64) {
    if factor != 1.0 {
        values.iter_mut().filter(|value| is_present(**value)).for_each(|value| *value *= factor);
    }
}

/// Keeps every series.
struct Collect<'a> {
    evaluator: Evaluator<'a>,
}

impl<'a> Consumer for Collect<'a> {
    type Part = (Vec<Series>, Held<'a>);

    fn begin(&self) -> Result<Self::Part, QueryError> {
        Ok((Vec::new(), self.evaluator.meter.hold(0, 0)?))
    }

    fn take(
        &self,
        (series, held): &mut Self::Part,
        _: usize,
        keyed: &dyn Keyed,
        values: &[f64],
    ) -> Result<(), QueryError> {
        held.grow(1, values.len())?;
        series.push(Series { key: keyed.key(), values: values.to_vec() });
        Ok(())
    }
}

/// Keeps at which steps there is a value.
struct Presence {
    count: usize,
}

impl Consumer for Presence {
    type Part = Vec<bool>;

    fn begin(&self) -> Result<Vec<bool>, QueryError> {
        Ok(vec![false; self.count])
    }

    fn take(
        &self,
        part: &mut Vec<bool>,
        _: usize,
        _: &dyn Keyed,
        values: &[f64],
    ) -> Result<(), QueryError> {
        part.iter_mut().zip(values).for_each(|(part, value)| *part |= is_present(*value));
        Ok(())
    }
}
