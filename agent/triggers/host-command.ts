import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LoadedIntent, loadIntents } from '../../intents/load.ts';
import { listRequiredBackups } from '../../intents/required-backups.ts';
import { Command, type Deployment, type IntentDocument, type ShippedFile } from '../../protocol/command.ts';

/** What somebody on the host, or the host itself, wants done. */
export interface HostCommandOptions {
  type: 'run' | 'plan';
  id: string;
  agent: string;
  /** Who: a person's name here, or the name of a schedule or a hook. */
  actor: string;
  /** `local`, `schedule` or `webhook`. */
  event: string;
  intents: IntentDocument[];
  files?: ShippedFile[];
  params: Deployment['params'];
}

/** Where a command comes from that comes from the host itself. */
const NOWHERE = {
  repository: 'local/host',
  repository_id: '0',
  ref: '',
  sha: '0'.repeat(40),
  workflow_ref: '',
  run_id: '',
  run_attempt: '',
  url: '',
};

/** A command that nobody sent. */
export function createHostCommand({
  type,
  id,
  agent,
  actor,
  event,
  intents,
  files = [],
  params,
}: HostCommandOptions): Deployment {
  const command = Command.parse({
    ...{ type, id, agent, challenge: '', issued_at: new Date().toISOString() },
    ...{ origin: { ...NOWHERE, event, actor }, approval: null, intents, files, params, dry_run: false },
  });
  if (command.type !== 'run' && command.type !== 'plan') throw new Error('not a deployment');
  return command;
}

/** The intents of a file in the host's own folder, and those that they want first. Throws `InvalidIntents` or a system error. */
export function readIntents(folder: string, name: string, params: Deployment['params']): LoadedIntent[] {
  const own = [readFrom(folder, name)];
  const before = listRequiredBackups(loadIntents(own, params)).map(one => readFrom(folder, one));
  return loadIntents([...before, ...own], params);
}

function readFrom(folder: string, name: string): { file: string; text: string } {
  const paths = ['.yaml', '.yml'].map(ending => join(folder, name + ending));
  const file = paths.find(existsSync) ?? paths[0] ?? '';
  return { file, text: readFileSync(file, 'utf8') };
}
