import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LoadedIntent, loadIntents } from '../../intents/load.ts';
import { listRequiredBackups } from '../../intents/required-backups.ts';
import { Command, type Deployment, type IntentDocument, type ShippedFile } from '../../protocol/command.ts';

/** A command from a user on the host, or from the host itself. */
export interface HostCommandOptions {
  type: 'run' | 'plan';
  id: string;
  agent: string;
  /** A user's name, or the name of a schedule or a hook. */
  actor: string;
  /** `local`, `schedule` or `webhook`. */
  event: string;
  intents: IntentDocument[];
  files?: ShippedFile[];
  params: Deployment['params'];
}

/** The origin of a command that no workflow sent. */
const LOCAL_ORIGIN = {
  repository: 'local/host',
  repository_id: '0',
  ref: '',
  sha: '0'.repeat(40),
  workflow_ref: '',
  run_id: '',
  run_attempt: '',
  url: '',
};

/** Creates a command that no action sent or signed. */
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
    ...{ origin: { ...LOCAL_ORIGIN, event, actor }, approval: null, intents, files, params, dry_run: false },
  });
  if (command.type !== 'run' && command.type !== 'plan') throw new Error('Not a deployment');
  return command;
}

/** Reads an intent file of the host's folder, and the backups that it requires first. Throws `InvalidIntents` or a system error. */
export function readIntents(folder: string, name: string, params: Deployment['params']): LoadedIntent[] {
  const file = readFile(folder, name);
  const backups = listRequiredBackups(loadIntents([file], params)).map(backup => readFile(folder, backup));
  return loadIntents([...backups, file], params);
}

function readFile(folder: string, name: string): { file: string; text: string } {
  const paths = ['.yaml', '.yml'].map(ending => join(folder, name + ending));
  const file = paths.find(existsSync) ?? paths[0] ?? '';
  return { file, text: readFileSync(file, 'utf8') };
}
