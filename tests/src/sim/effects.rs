//! A process's rounds: what arrived goes in, what the core asks for is performed.

use quorate_core::event::Event;
use quorate_core::io::{Input, Output, Ticket};
use quorate_store::ids::GroupId;

use super::schedule::{Happening, HostId, MILLI, ProcessStep};
use super::storage::{DiskFailed, KeepOrder, LogWork, StateWork};
use super::world::World;

/// Simulated wall clocks begin in 2026.
const WALL_CLOCK: u64 = 1_767_225_600_000;

/// A round gives at most so many outputs.
const OUTPUTS_MAX: usize = 1_000_000;

impl World {
    fn process_after(&mut self, host: HostId, delay: u64, step: ProcessStep) {
        let life = self.hosts[host].life;
        self.schedule.after(delay, Happening::Process { host, life, step });
    }

    /// Something arrives at a process.
    pub fn input(&mut self, host: HostId, input: Input) {
        if let Some(process) = &mut self.hosts[host].process {
            process.inbox.push_back(input);
            self.ask_for_round(host);
        }
    }

    pub(super) fn ask_for_round(&mut self, host: HostId) {
        let delay = self.hosts[host].round_delay();
        if let Some(process) = &mut self.hosts[host].process
            && !process.round_due
        {
            process.round_due = true;
            self.process_after(host, delay, ProcessStep::Round);
        }
    }

    pub(super) fn round(&mut self, host: HostId) {
        let now = self.now();
        let Some(process) = &mut self.hosts[host].process else { return };
        process.round_due = false;
        let tick = process.tick(now);
        for input in std::mem::take(&mut process.inbox) {
            process.node.handle(tick, input);
        }
        if process.node.next_deadline().is_some_and(|deadline| deadline <= tick) {
            process.node.handle(tick, Input::Tick);
        }
        let mut outputs = Vec::new();
        while let Some(output) = process.node.poll() {
            process.order.note(&output);
            outputs.push(output);
            assert!(outputs.len() < OUTPUTS_MAX, "host {host}: a round comes to no rest");
        }
        let commits: Vec<_> = process.node.commits().collect();
        self.trace.word((host as u64) << 32 | outputs.len() as u64);
        // What a policy lets out at once is told before the round's batch is given to the log.
        for output in &outputs {
            if let Output::Persist { batch, .. } = output {
                let result = self.ledger.written(host, batch);
                self.checker.check(result);
            }
        }
        for output in outputs {
            self.perform(host, output);
            if self.hosts[host].process.is_none() {
                return;
            }
        }
        // Whatever is committed now was handed to the log in this round or before.
        for (group, commit) in commits {
            let result = self.ledger.committed(host, group, commit);
            self.checker.check(result);
        }
        self.begin_work(host);
        self.wake_later(host);
    }

    fn wake_later(&mut self, host: HostId) {
        let now = self.now();
        let Some(process) = &mut self.hosts[host].process else { return };
        let Some(deadline) = process.node.next_deadline() else { return };
        let at = process.clock.will_show(deadline.0 * MILLI).max(now + 1);
        if process.wake_at.is_none_or(|wake| at < wake) {
            process.wake_at = Some(at);
            self.process_after(host, at - now, ProcessStep::Wake);
        }
    }

    /// Begins what the lanes of the disk have not begun.
    fn begin_work(&mut self, host: HostId) {
        let machine = &mut self.hosts[host];
        let Some(process) = &mut machine.process else { return };
        let storage = &mut process.storage;
        let log = storage.begin_log();
        let stamp = storage.begin_stamp();
        let state = storage.begin_state(&mut machine.medium.state);
        match log {
            Err(failed) => {
                self.disk_failed(host, &failed.0);
                return;
            }
            Ok(Some(begun)) => {
                // The operating system has it as soon as it is written; the medium takes its time.
                let delay =
                    if begun.sync { self.hosts[host].sync_delay() } else { self.hosts[host].round_delay() };
                self.process_after(host, delay, ProcessStep::LogSynced);
                begun.batches.iter().for_each(|batch| self.ledger.appended(host, batch));
                if let Some(ticket) = begun.written {
                    self.log_written(host, ticket);
                }
            }
            Ok(None) => {}
        }
        if stamp {
            let delay = self.hosts[host].sync_delay() * 2;
            self.process_after(host, delay, ProcessStep::StampWritten);
        }
        if state {
            let delay = self.hosts[host].sync_delay();
            self.process_after(host, delay, ProcessStep::StateDone);
        }
    }

    fn log_written(&mut self, host: HostId, ticket: Ticket) {
        let Some(process) = &mut self.hosts[host].process else { return };
        process.order.written(ticket);
        let released = process.order.released();
        self.input(host, Input::Written { ticket });
        for (to, message) in released {
            self.send(host, to, &message);
        }
    }

    pub(super) fn log_synced(&mut self, host: HostId) {
        let Some(process) = &mut self.hosts[host].process else { return };
        match process.storage.end_log() {
            Ok((ticket, batches, inputs)) => {
                for batch in &batches {
                    self.ledger.durable(host, batch);
                }
                if let Some(ticket) = ticket {
                    self.persisted(host, ticket);
                }
                for input in inputs {
                    self.input(host, input);
                }
                self.keep(host);
                self.begin_work(host);
            }
            Err(failed) => self.disk_failed(host, &failed.0),
        }
    }

    fn keep(&mut self, host: HostId) {
        let machine = &mut self.hosts[host];
        let Some(process) = &mut machine.process else { return };
        match process.storage.keep(&mut machine.medium) {
            Ok(tickets) => {
                for ticket in tickets {
                    self.persisted(host, ticket);
                }
            }
            Err(failed) => self.disk_failed(host, &failed.0),
        }
    }

    pub(super) fn stamp_written(&mut self, host: HostId) {
        let wall_clock = WALL_CLOCK + self.now() / MILLI;
        let boot_id = self.hosts[host].boot_id();
        let Some(process) = &mut self.hosts[host].process else { return };
        if process.storage.stamp_flight.is_none() {
            // It panicked meanwhile.
            return;
        }
        match process.storage.end_stamp(&boot_id, wall_clock) {
            Ok(Err(found)) => self.input(host, Input::StampForeign { found }),
            Ok(Ok(tickets)) => {
                for ticket in tickets {
                    self.persisted(host, ticket);
                }
                self.begin_work(host);
            }
            Err(failed) => self.disk_failed(host, &failed.0),
        }
    }

    pub(super) fn state_done(&mut self, host: HostId) {
        let machine = &mut self.hosts[host];
        let Some(process) = &mut machine.process else { return };
        match process.storage.end_state(&mut machine.medium.state) {
            Some(Input::Persisted { ticket }) => self.persisted(host, ticket),
            Some(input) => self.input(host, input),
            None => {}
        }
        self.begin_work(host);
    }

    fn persisted(&mut self, host: HostId, ticket: Ticket) {
        let Some(process) = &mut self.hosts[host].process else { return };
        let tickets = process.order.persisted(ticket);
        let released = process.order.released();
        for ticket in tickets {
            self.input(host, Input::Persisted { ticket });
        }
        for (to, message) in released {
            self.send(host, to, &message);
        }
    }

    fn perform(&mut self, host: HostId, output: Output) {
        let Some(process) = &mut self.hosts[host].process else { return };
        let storage = &mut process.storage;
        match output {
            Output::Persist { ticket, batch, point } => {
                storage.log_queue.push_back(LogWork::Persist(ticket, batch, point));
            }
            Output::WriteStamp { ticket, stamp } => storage.stamp_queue.push_back((ticket, stamp)),
            Output::WriteState { ticket, batch, flush, open_view } => {
                storage.state_queue.push_back(StateWork::Write { ticket, batch, flush, open_view });
            }
            Output::Scan { ticket, family, from, to, max_bytes, view } => {
                storage.state_queue.push_back(StateWork::Scan { ticket, family, from, to, max_bytes, view });
            }
            Output::CloseView { view } => storage.state_queue.push_back(StateWork::CloseView(view)),
            Output::Compact { group, index } => storage.log_queue.push_back(LogWork::Compact(group, index)),
            Output::Quarantine { ticket, reason, groups, diverged, stamp } => {
                let order = KeepOrder { ticket, reason, groups, diverged, stamp };
                storage.log_queue.push_back(LogWork::Keep(order));
            }
            Output::Load { ticket, group, from, to, max_bytes } => {
                let delay = self.hosts[host].read_delay();
                self.process_after(host, delay, ProcessStep::Loaded { ticket, group, from, to, max_bytes });
            }
            Output::Dial { address } => {
                if process.dialing.insert(address.clone()) {
                    let delay = self.network.delay();
                    self.process_after(host, delay, ProcessStep::Dial { address, pause: 20 * MILLI });
                }
            }
            Output::Send { to, message, after } => {
                if let Some(message) = process.order.hold(after, to, message) {
                    self.send(host, to, &message);
                }
            }
            Output::Write { session, channel, frame } => self.write_frame(host, session, channel, &frame),
            Output::Release { .. } => {}
            Output::Close { session } => self.close_session(host, session),
            Output::AdminReply { id, reply } => self.answered(host, id, reply),
            Output::Event(event) => self.event(host, event),
            Output::LookAtStamp { ticket } => match storage.look_at_stamp() {
                Some(found) => self.input(host, Input::StampForeign { found }),
                None => self.persisted(host, ticket),
            },
            Output::Panic { ticket, record } => {
                process.order.drop_all();
                let done = storage.panic(record.as_deref());
                self.panic_file_done(host, ticket, done);
            }
            Output::ClearPanic { ticket } => {
                let done = storage.clear_panic();
                self.panic_file_done(host, ticket, done);
            }
            Output::Restart { reason } => {
                let now = self.now();
                self.trace.line(now, || format!("host {host} begins again: {reason}"));
                self.exited(host, 0, reason);
                self.hosts[host].exit = None;
                self.start(host);
            }
            Output::BeginAnew { reason } => {
                let now = self.now();
                self.trace.line(now, || format!("host {host} begins anew: {reason}"));
                self.exited(host, 0, reason.clone());
                if let Err(failed) = self.hosts[host].medium.set_aside(reason) {
                    self.disk_failed(host, &failed.0);
                    return;
                }
                self.hosts[host].exit = None;
                self.ledger.forget(host);
                self.start(host);
            }
            Output::Exit { status, reason } => {
                let now = self.now();
                self.trace.line(now, || format!("host {host} exits with {status}: {reason}"));
                if status == 70 {
                    self.checker.violation(format!("host {host} ended for a defect: {reason}"));
                }
                self.exited(host, status, reason);
            }
        }
    }

    /// A disk that fails to keep, or remove, this file is no end of the process; that the power goes is.
    fn panic_file_done(&mut self, host: HostId, ticket: Ticket, done: Result<(), DiskFailed>) {
        match done {
            Ok(()) => self.persisted(host, ticket),
            Err(DiskFailed(why)) if self.hosts[host].medium.files.is_off() => self.disk_failed(host, &why),
            Err(DiskFailed(why)) => self.input(host, Input::NotKept { ticket, why }),
        }
    }

    /// A process that ends by itself finishes what its disk was asked to do before.
    fn exited(&mut self, host: HostId, status: u8, reason: String) {
        let machine = &mut self.hosts[host];
        if let Some(process) = &mut machine.process {
            let storage = &mut process.storage;
            while storage.log_flight.is_some() || matches!(storage.begin_log(), Ok(Some(_))) {
                match storage.end_log() {
                    Ok((_, batches, _)) => batches.iter().for_each(|batch| self.ledger.durable(host, batch)),
                    Err(_) => break,
                }
            }
            while storage.state_flight.is_some() || storage.begin_state(&mut machine.medium.state) {
                storage.end_state(&mut machine.medium.state);
            }
        }
        self.end(host, false);
        self.hosts[host].exit = Some((status, reason));
    }

    fn event(&mut self, host: HostId, event: Event) {
        let now = self.now();
        self.trace.line(now, || format!("b{} {}", host + 1, event.text()));
        if let Event::RoleChanged { vhost, new: "leader", term, .. } = &event {
            self.leads(host, vhost, *term);
        }
        if let Event::Panicked { text, .. } = &event {
            self.panicked(host, text);
        }
        // A loss is named by its store, its group and where it begins.
        if let Event::Diverged { loss, .. } = &event
            && let Some(Ok(group)) = loss.split('-').nth(1).map(str::parse)
        {
            self.ledger.gives_up(host, GroupId(group));
        }
        self.events.push((now, host, event));
    }
}
