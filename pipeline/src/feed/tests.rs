//! Steps on a card see what steps on the CPU see, in the same order, and end as cleanly.

use std::sync::Mutex;

use atomflow_workers::{
    card::{
        Arithmetic, Card, Encodes, OnCard,
        wire::{Format, Outgoing, Sent},
    },
    learner::{ActivationBatch, DictLearner, Dictionary, Mismatch, Scales, StepReport},
    skeleton::{FrozenParameters, Inference, parameters::Parameters},
    state::LearnerState,
};

use super::*;
use crate::{
    Error, Result,
    batch::View,
    chooser::Hold,
    device::{Device, WindowReport, Work},
    error::Kind,
    plan::PlanSpec,
    seat::Seat,
    sight::Sight,
    stop::lock,
};

/// A card that has what it was sent, as f32; and how many batches were alive at a time.
#[derive(Debug, Default)]
struct Keeps {
    sent: Mutex<(usize, Vec<std::sync::Weak<Vec<f32>>>)>,
    lost: Option<usize>,
}

impl Card for Keeps {
    fn name(&self) -> String {
        "memory:0".to_owned()
    }
    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::default()
    }
    fn autoencoder(&self, _: &Parameters<f32>) -> Box<dyn OnCard> {
        unreachable!("it is not asked")
    }
    fn dictionary(&self, _: &FrozenParameters, _: &Inference) -> Option<Box<dyn Encodes>> {
        None
    }
    fn send(&self, rows: &Outgoing, threads: &Threads) -> Sent {
        let mut words = vec![0; rows.rows.len() * rows.width()];
        assert!(threads.install(|| rows.write(Format::F32, &mut words)));
        let x: Arc<Vec<f32>> = Arc::new(words.into_iter().map(f32::from_bits).collect());
        let mut sent = lock(&self.sent);
        sent.1.push(Arc::downgrade(&x));
        sent.0 = sent.0.max(sent.1.iter().filter(|x| x.strong_count() > 0).count());
        Sent(x)
    }
    fn copy(&self, _: usize) {}
    fn multiply(&self, _: usize) {}
    fn lost(&self) -> Option<String> {
        let sent = lock(&self.sent).1.len();
        self.lost.filter(|&most| sent > most).map(|_| "fell off the bus".to_owned())
    }
}

/// A learner that notes what it sees. On a card no step of it ends before the next batch has gone up.
struct Notes {
    seen: Arc<Mutex<Seen>>,
    card: Option<Arc<Keeps>>,
    /// Whether it reads rows here, too.
    reads: bool,
}

impl Notes {
    fn wait_for_the_next(&self) {
        let (since, steps) = (Instant::now(), lock(&self.seen).len());
        let ahead = |card: &Keeps| lock(&card.sent).1.len() > steps || steps == all_steps();
        while !self.card.as_deref().is_none_or(ahead) {
            assert!(since.elapsed() < Duration::from_secs(60), "nothing goes up while a step goes on");
            std::thread::yield_now();
        }
    }
}

impl DictLearner for Notes {
    fn d_in(&self) -> usize {
        2
    }
    fn n_latents(&self) -> usize {
        1
    }
    fn reads_rows(&self) -> bool {
        self.reads
    }
    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        assert_eq!(batch.sent.is_some(), self.card.is_some());
        let there = batch.sent.map(|sent| sent.0.downcast_ref::<Vec<f32>>().unwrap());
        let x = there.map_or(batch.x, |x| &x[..]);
        assert_eq!(batch.x, if self.reads { x } else { &[] });
        lock(&self.seen).push((x.to_vec(), batch.lanes.to_vec()));
        self.wait_for_the_next();
        StepReport { rows: batch.rows() as u64, ..StepReport::default() }
    }
    fn freeze(&self, _: &Scales) -> Box<dyn Dictionary> {
        unreachable!("it is not asked")
    }
    fn save(&self) -> LearnerState {
        LearnerState::default()
    }
    fn load(&mut self, _: &LearnerState) -> std::result::Result<(), Mismatch> {
        Ok(())
    }
}

type Seen = Vec<(Vec<f32>, Vec<usize>)>;

const LANES: usize = 3;

fn plan() -> Arc<Plan> {
    let spec = PlanSpec { batch_rows: 10, window_rows: 40, lanes: LANES, passes: 1, heldout: 0.0 };
    let windows = spec.windows(&[vec![40; 5]], 7);
    let steps = windows.last().map_or(0, |w| w.first_step + w.steps);
    Arc::new(Plan { windows, lanes: LANES, steps, hash: String::new() })
}

/// Steps from the window on that tests begin with.
fn all_steps() -> usize {
    let plan = plan();
    usize::try_from(plan.steps - plan.windows[0].steps).unwrap()
}

/// Lanes of one window: rows of three values, one to four of them in a step.
fn lanes(plan: &Plan, window: u64) -> Vec<LaneRows> {
    let steps = usize::try_from(plan.windows[usize::try_from(window).unwrap()].steps).unwrap();
    let lane = |lane: u32| {
        let rows = |step: usize| (step * 7 + lane as usize * 3 + window as usize) % 4 + 1;
        let rows: Vec<usize> = (0..steps).map(rows).collect();
        let starts = std::iter::once(0).chain(rows.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        }));
        let x = (0..rows.iter().sum::<usize>() * 3)
            .map(|i| i as f32 + 100.0 * (lane as f32 + 10.0 * window as f32));
        LaneRows { window, lane, x: x.collect(), starts: starts.collect() }
    };
    // In another order than that of lanes.
    (0..3).rev().map(lane).collect()
}

/// Runs learners on `cards` through the whole plan; what each saw, and how it ended.
fn run(
    cards: &[Option<Arc<Keeps>>],
    reads: bool,
    stop_at: Option<u64>,
) -> (Vec<Seen>, Result<()>, Vec<WindowReport>) {
    // One more thread than learners that wait: somebody has to convert.
    let (plan, threads, stop) = (plan(), Threads::new(3).unwrap(), Stop::default());
    let (mut notes, mut seats) = (Vec::new(), Vec::new());
    for (learner, card) in cards.iter().enumerate() {
        let dictionary = Notes { seen: Arc::default(), card: card.clone(), reads };
        notes.push(Arc::clone(&dictionary.seen));
        seats.push(Seat {
            learner,
            view: View {
                sight: Sight { inputs: vec![2..3, 0..1], ..Sight::whole(3) },
                scales: Scales { inputs: vec![0.5, 3.0], beside: Vec::new() },
            },
            sums: StepReport::default(),
            field: "learner".to_owned(),
            dictionary: Box::new(dictionary),
            hold: Hold::new(&threads),
            card: card.clone().map(|card| card as Arc<dyn Card>),
            outside: None,
        });
    }
    let reports: Arc<Mutex<Vec<WindowReport>>> = Arc::default();
    let noted = Arc::clone(&reports);
    let work = Work {
        failures: Failures::new(seats.len()),
        seats,
        threads,
        plan: Arc::clone(&plan),
        first_window: 1,
        on_window: Box::new(move |_, report| {
            lock(&noted).push(*report);
            if stop_at == Some(report.window) { Err(Error::retry("enough")) } else { Ok(()) }
        }),
        stop: stop.clone(),
    };
    let (device, handle) = Device::start(work).unwrap();
    for window in 1..plan.windows.len() as u64 {
        while !stop.is_set() && handle.windows_done() + 2 < window {
            std::thread::yield_now();
        }
        lanes(&plan, window).into_iter().for_each(|lane| handle.send(lane, &stop));
    }
    // Operators are there until the end.
    device.join().unwrap();
    drop(handle);
    let reports = lock(&reports).clone();
    (notes.iter().map(|seen| lock(seen).clone()).collect(), stop.check(), reports)
}

#[test]
fn a_step_on_a_card_sees_what_one_on_the_cpu_sees() {
    let card: Arc<Keeps> = Arc::default();
    let (here, ended, reports) = run(&[None], true, None);
    ended.unwrap();
    assert_eq!(here[0].len(), all_steps());
    let (both, ended, on_card) = run(&[Some(Arc::clone(&card)), Some(Arc::clone(&card))], false, None);
    ended.unwrap();
    assert!(both.iter().all(|seen| *seen == here[0]));
    let what = |reports: &[WindowReport]| reports.iter().map(|r| (r.window, r.step)).collect::<Vec<_>>();
    assert_eq!(what(&on_card), what(&reports));
    assert!(on_card.iter().all(|report| report.waited <= report.elapsed));
    // One copy for both, and of two batches at a time: one in use, one ready.
    let sent = lock(&card.sent);
    assert_eq!((sent.1.len(), sent.0), (all_steps(), 2));
}

#[test]
fn a_run_that_stops_ends_whoever_is_ahead() {
    let (seen, ended, reports) = run(&[Some(Arc::default())], true, Some(2));
    assert_eq!(ended.unwrap_err().kind, Kind::Retry);
    let steps: u64 = plan().windows[1..3].iter().map(|window| window.steps).sum();
    assert_eq!((reports.len(), seen[0].len() as u64), (2, steps));
}

#[test]
fn a_card_that_is_lost_while_rows_go_up_ends_the_run() {
    let card = Keeps { lost: Some(3), ..Keeps::default() };
    let (seen, ended, _) = run(&[Some(Arc::new(card))], false, None);
    let error = ended.unwrap_err();
    assert!(error.kind == Kind::Retry && error.message().contains("fell off the bus"), "{error}");
    // The step that went on while the fourth batch went up, and found it gone.
    assert_eq!(seen[0].len(), 3);
}
