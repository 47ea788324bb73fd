import { Gauge, type Registry } from 'prom-client';
import type { BackupIndexEntry } from '../store/backup-index.ts';
import type { ListedSchedule } from '../store/schedules.ts';

/** The present state of the agent, read at each scrape. */
export interface AgentState {
  inProgress: () => number;
  waiting: () => number;
  connections: () => number;
  schedules?: () => ListedSchedule[];
  circuits?: () => { name: string; state: number }[];
}

interface GaugeText {
  name: string;
  help: string;
}

/** Registers gauges of runs, connections, schedules and circuit breakers. */
export function registerStateGauges(registry: Registry, state: AgentState): void {
  const counts: (GaugeText & { count: () => number })[] = [
    { name: 'chatops_runs_in_progress', help: 'Runs that wait or execute.', count: state.inProgress },
    { name: 'chatops_connections', help: 'Open connections of actions.', count: state.connections },
    { name: 'chatops_run_queue_length', help: 'Runs that wait for a lock or a free slot.', count: state.waiting },
  ];
  for (const { name, help, count } of counts) {
    new Gauge({
      ...{ name, help, registers: [registry] },
      collect() {
        this.set(count());
      },
    });
  }
  const times: (GaugeText & { timeOf: (schedule: ListedSchedule) => string | null })[] = [
    {
      name: 'chatops_schedule_next_timestamp_seconds',
      help: 'Next time of a schedule.',
      timeOf: schedule => schedule.next,
    },
    {
      name: 'chatops_schedule_last_timestamp_seconds',
      help: 'Last time of a schedule that the agent handled.',
      timeOf: schedule => schedule.last,
    },
  ];
  for (const { name, help, timeOf } of times) {
    new Gauge({
      ...{ name, help, registers: [registry], labelNames: ['schedule'] as const },
      collect() {
        this.reset();
        for (const schedule of state.schedules?.() ?? []) {
          const value = secondsOf(timeOf(schedule));
          if (value !== undefined) this.set({ schedule: schedule.name }, value);
        }
      },
    });
  }
  new Gauge({
    name: 'chatops_circuit_state',
    help: 'Circuit breaker of an external service: 0 closed, 1 open, 0.5 half-open.',
    labelNames: ['name'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { name, state: value } of state.circuits?.() ?? []) this.set({ name }, value);
    },
  });
}

/** Registers gauges of the newest backups. They are read from the store, so they survive a restart of the agent. */
export function registerBackupGauges(registry: Registry, backups: () => BackupIndexEntry[]): void {
  // A name that was only drilled has no backup of this agent.
  const ifMade = (backup: BackupIndexEntry, value: number) => (backup.at === '' ? undefined : value);
  const gauges: (GaugeText & { read: (backup: BackupIndexEntry) => number | undefined })[] = [
    {
      name: 'chatops_backup_last_success_timestamp_seconds',
      help: 'Time of the last backup.',
      read: backup => secondsOf(backup.at),
    },
    {
      name: 'chatops_backup_last_verified_timestamp_seconds',
      help: 'Time of the last backup that was read back completely.',
      read: backup => secondsOf(backup.verifiedAt),
    },
    {
      name: 'chatops_backup_last_drill_timestamp_seconds',
      help: 'Time of the last restore drill.',
      read: backup => secondsOf(backup.drilledAt),
    },
    {
      name: 'chatops_backup_size_bytes',
      help: 'Size of the last backup.',
      read: backup => ifMade(backup, backup.bytes),
    },
    {
      name: 'chatops_backup_duration_seconds',
      help: 'Duration of the last backup.',
      read: backup => ifMade(backup, backup.seconds),
    },
    {
      name: 'chatops_backup_drill_duration_seconds',
      help: 'Duration of the last restore drill: the time that a restore takes.',
      read: backup => backup.drillSeconds,
    },
  ];
  for (const { name, help, read } of gauges) {
    new Gauge({
      ...{ name, help, registers: [registry], labelNames: ['kind', 'name'] as const },
      collect() {
        this.reset();
        for (const backup of backups()) {
          const value = read(backup);
          if (value !== undefined) this.set({ kind: backup.kind, name: backup.name }, value);
        }
      },
    });
  }
}

/** Registers the number of audit rows, with the digest of the newest one. */
export function registerAuditGauge(registry: Registry, head: () => { n: number; digest: string }): void {
  new Gauge({
    name: 'chatops_audit_rows',
    help: 'Rows of the audit log; the label is the digest of the newest row.',
    labelNames: ['digest'] as const,
    registers: [registry],
    collect() {
      const { n, digest } = head();
      this.reset();
      this.set({ digest }, n);
    },
  });
}

/** Returns seconds since 1970; undefined without a time. */
function secondsOf(at: string | null | undefined): number | undefined {
  return at === undefined || at === null || at === '' ? undefined : Date.parse(at) / 1000;
}
