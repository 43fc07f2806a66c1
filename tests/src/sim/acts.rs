//! How faults are done.

use quorate_core::admin::{AdminRequest, Author};
use quorate_core::io::Input;
use quorate_store::files::crash::{Fault as DiskFault, Operation};

use super::controls::Control;
use super::fault::{Fault, Target};
use super::schedule::{Happening, HostId, MILLI, Micros, Relief, SECOND};
use super::world::World;

impl World {
    pub(super) fn target(&self, target: Target) -> HostId {
        match target {
            Target::Host(host) => host,
            Target::Leader(host) => self.leader().unwrap_or(host),
        }
    }

    pub(super) fn start_later(&mut self, host: HostId, delay: Micros) {
        let after = self.hosts[host].life;
        self.schedule.after(delay, Happening::Start { host, after });
    }

    pub(super) fn end_and_restart(&mut self, host: HostId, power: bool, restart: Micros) -> bool {
        let ran = self.hosts[host].process.is_some();
        if ran {
            self.end(host, power);
            self.start_later(host, restart);
            if self.hosts.iter().all(|host| host.process.is_none()) {
                self.tally.total_outages += 1;
            }
        }
        ran
    }

    pub(super) fn end_all(&mut self, power: bool, restart: Micros) -> bool {
        let mut any_ran = false;
        for host in 0..self.hosts.len() {
            let later = restart + self.dice.between(0, 800) * MILLI;
            any_ran |= self.end_and_restart(host, power, later);
        }
        any_ran
    }

    /// The plan's next fault is due.
    pub(super) fn fault(&mut self, number: usize) {
        let Some((_, fault)) = self.plan.get(number).cloned() else { return };
        let now = self.now();
        self.trace.line(now, || format!("fault: {fault:?}"));
        self.copy_some_disk();
        if self.apply(&fault) {
            self.tally.count(now, fault.kind());
        }
    }

    /// Does it; false if there was nothing to do it to, or if it counts later, once it has come about.
    pub fn apply(&mut self, fault: &Fault) -> bool {
        self.on_processes(fault)
            .or_else(|| self.on_network(fault))
            .or_else(|| self.on_disk(fault))
            .unwrap_or_else(|| self.by_operator(fault))
    }

    /// To processes and their machines.
    fn on_processes(&mut self, fault: &Fault) -> Option<bool> {
        let done = match *fault {
            Fault::Kill(target, restart) => self.end_and_restart(self.target(target), false, restart),
            Fault::Power(target, restart) => self.end_and_restart(self.target(target), true, restart),
            Fault::PowerWithin(target, operations) => {
                let host = self.target(target);
                self.hosts[host].medium.files.cut_power_at(operations);
                false
            }
            Fault::KillAll(restart) => self.end_all(false, restart),
            Fault::PowerAll(restart) => self.end_all(true, restart),
            Fault::ColdStart(late, restart) => {
                let any_ran = self.end_all(true, restart);
                let hosts = (0..self.hosts.len()).filter(|host| late >> host & 1 == 1);
                for host in hosts.collect::<Vec<_>>() {
                    // A life more: the start that comes with the others is not for it.
                    self.end(host, true);
                    let later = restart + self.dice.between(1, 6) * SECOND;
                    self.start_later(host, later);
                }
                any_ran
            }
            Fault::Pause(target, time) => {
                let host = self.target(target);
                let paused = self.pause(host);
                if paused {
                    let life = self.hosts[host].life;
                    self.schedule.after(time, Happening::Relief(Relief::Resume(host, life)));
                }
                paused
            }
            Fault::ClockDrift(target, percent, time) => {
                let host = self.target(target);
                self.set_clock(host, percent);
                self.schedule.after(time, Happening::Relief(Relief::Clock(host)));
                self.hosts[host].process.is_some()
            }
            Fault::Stop(target, restart) => {
                let host = self.target(target);
                let runs = self.hosts[host].process.is_some();
                if runs {
                    self.input(host, Input::Stop);
                    // It ends in its own time; whoever is late is started again when it has ended.
                    let after = self.hosts[host].life + 1;
                    self.schedule.after(restart + 3000 * MILLI, Happening::Start { host, after });
                }
                runs
            }
            _ => return None,
        };
        Some(done)
    }

    /// Between them.
    fn on_network(&mut self, fault: &Fault) -> Option<bool> {
        let done = match *fault {
            Fault::Isolate(target, time) => {
                self.isolate(self.target(target), time);
                self.hosts.len() > 1
            }
            Fault::OneWay(target, to, time) => {
                let from = self.target(target);
                if from != to {
                    self.network.cut(from, to);
                    self.schedule.after(time, Happening::Relief(Relief::Heal(from, to)));
                }
                from != to
            }
            Fault::Split(mask, time) => self.split(mask, None, time),
            Fault::Bridge(host, mask, time) => self.split(mask, Some(host), time),
            Fault::SlowLink(target, to, delay, time) => {
                let from = self.target(target);
                self.network.slow(from, to, delay);
                self.schedule.after(time, Happening::Relief(Relief::FastLink(from, to)));
                from != to
            }
            Fault::ResetLinks(target) => self.reset_links(self.target(target)),
            Fault::CutClients => self.cut_clients(),
            _ => return None,
        };
        Some(done)
    }

    /// To their disks.
    fn on_disk(&mut self, fault: &Fault) -> Option<bool> {
        let done = match *fault {
            Fault::DiskError(target, syncs) => {
                let host = self.target(target);
                self.hosts[host].medium.files.fail_after(Operation::Sync, syncs, DiskFault::Io);
                false
            }
            Fault::SlowDisk(target, factor, time) => {
                let host = self.target(target);
                self.hosts[host].speed.factor = factor;
                self.schedule.after(time, Happening::Relief(Relief::FastDisk(host)));
                self.hosts[host].process.is_some()
            }
            Fault::DiskLow(target, time) => {
                let host = self.target(target);
                let life = self.hosts[host].life;
                self.input(host, Input::Space { low: true });
                self.schedule.after(time, Happening::Relief(Relief::Space(host, life)));
                self.hosts[host].process.is_some()
            }
            Fault::DiskFull(target, room, time) => {
                let host = self.target(target);
                let files = &self.hosts[host].medium.files;
                let used: usize = files.everything().values().map(Vec::len).sum();
                files.set_capacity(used as u64 + room);
                self.schedule.after(time, Happening::Relief(Relief::Room(host)));
                self.hosts[host].process.is_some()
            }
            _ => return None,
        };
        Some(done)
    }

    /// By an operator, or for one to mend.
    fn by_operator(&mut self, fault: &Fault) -> bool {
        if Self::is_for_the_strict(fault) && (self.is_weak() || self.is_filling()) {
            return false;
        }
        match *fault {
            Fault::Shutdown(target, restart) => {
                let host = self.target(target);
                let runs = self.hosts[host].process.is_some();
                if runs {
                    let reason = "a fault of the plan".to_owned();
                    self.ask(host, AdminRequest::Shutdown { reason, author: Author::local("the simulator") });
                    // Most have ended soon; whoever waited for the others in vain, after that.
                    for host in 0..self.hosts.len() {
                        let after = self.hosts[host].life + 1;
                        for late in [2 * SECOND, 22 * SECOND] {
                            self.schedule.after(restart + late, Happening::Start { host, after });
                        }
                    }
                }
                runs
            }
            Fault::Intrude(target) => self.intrude(self.target(target)),
            Fault::Mark(restart) => self.go_on_from_mark(None, restart),
            Fault::MarkBlind(target, restart) => {
                self.mark_blindly_soon(target, restart);
                false
            }
            Fault::Override(target, restart) => {
                let host = self.target(target);
                self.go_on_by_override(host, restart)
            }
            Fault::Designate(target, time) => {
                let host = self.target(target);
                self.hosts.len() == 2 && self.control(Control::Primary(host), time)
            }
            Fault::Priority(target, priority, time) => {
                let host = self.target(target);
                self.control(Control::Priority(host, priority), time)
            }
            Fault::RequiredNodes(count, time) => self.control(Control::RequiredNodes(count), time),
            Fault::Durability(policy, time) => {
                (3..=5).contains(&self.hosts.len())
                    && self.ailing.is_none()
                    && self.control(Control::Durability(policy), time)
            }
            Fault::Transfer(to) => self.transfer(to),
            Fault::Vhost(time) => self.create_vhost(time),
            Fault::Drain(target, time) => {
                let name = self.hosts[self.target(target)].name.clone();
                self.drain(&name, time)
            }
            _ => self.take_store(fault),
        }
    }

    /// Nothing gets across, but by the bridge. False if all are on one side.
    fn split(&mut self, mask: u64, bridge: Option<HostId>, time: Micros) -> bool {
        let mut any_cut = false;
        let side = |host: HostId| mask >> host & 1;
        for from in 0..self.hosts.len() {
            for to in (0..self.hosts.len()).filter(|to| side(*to) != side(from)) {
                if bridge.is_none_or(|bridge| from != bridge && to != bridge) {
                    self.network.cut(from, to);
                    self.schedule.after(time, Happening::Relief(Relief::Heal(from, to)));
                    any_cut = true;
                }
            }
        }
        any_cut
    }

    pub(super) fn isolate(&mut self, host: HostId, time: Micros) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            for (from, to) in [(host, other), (other, host)] {
                self.network.cut(from, to);
                self.schedule.after(time, Happening::Relief(Relief::Heal(from, to)));
            }
        }
    }
}
