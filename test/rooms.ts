/**
 * The rooms of `agent/`, each with its sentence, from the ground up: a file imports its own room and the rooms above it
 * in this list. `docs/architecture.md` shows the same table.
 */
export const ROOMS: readonly (readonly [room: string, sentence: string])[] = [
  ['refusals.ts', 'Every refusal, in one voice.'],
  ['plan', 'A plan, a step and a result of a step, as data. Imports nothing of Node but digests.'],
  ['system', 'This machine: processes, control groups, files, secrets in files, log tails, the supervisor.'],
  ['outbound', 'Requests to others: Docker, Tailscale, GitHub, Proxmox, webhooks, behind circuit breakers.'],
  ['compose', 'Compose files: reads, renders and checks them, without starting anything.'],
  ['executors', 'Intent in, plan out, one folder per kind. Decides and does nothing.'],
  ['config', 'agent.yaml: schema, loading, consistency, trust entries, the site for executors.'],
  ['secrets', 'Values that must not be shown, and their removal from events.'],
  ['store', 'All SQL: runs, audit log, schedules, backups, notices.'],
  ['steps', 'Step runners, one per kind of step, and the table from kind to runner.'],
  ['admission', 'Who sends a command, and may they: authentication, rules, confirmation by GitHub.'],
  ['runs', 'The life of a run: queue, plan, execute, undo, receipt, resume.'],
  ['observability', 'Audit, metrics and notices: observers of runs.'],
  ['triggers', 'Runs that the host starts itself: schedules and webhooks.'],
  ['diagnostics', 'Tools for the operator: doctor and self-attack.'],
  ['server', 'The endpoints: HTTP, WebSocket sessions, the local API, queries.'],
  ['main.ts', 'Builds an agent from its parts and starts it.'],
  ['cli', 'The `chatops` commands.'],
  ['cli.ts', 'The entry of the bundle.'],
];

/** The most source files of one room, and of one kind of executor. */
export const MAX_FILES = 25;
