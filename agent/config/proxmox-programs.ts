import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ApiFile } from '../outbound/proxmox.ts';
import { secretPath } from '../system/secret-file.ts';
import type { Config } from './load.ts';

/** The Proxmox programs that the agent replaces if agent.yaml names the API. */
const PROXMOX_PROGRAMS = ['vzdump', 'pvesh', 'pvesm', 'qm', 'pct', 'qmrestore'] as const;

const FOLDER = 'proxmox';

/**
 * Returns the folder of the Proxmox programs, with a slash at its end; empty if PATH finds them. With `api` it is a folder of
 * the agent's own: each program is this one under another name, and calls the API.
 */
export function proxmoxFolder({ proxmox, state_dir }: Pick<Config, 'proxmox' | 'state_dir'>): string {
  if (proxmox.api) return `${join(state_dir, FOLDER)}/`;
  return proxmox.programs === undefined ? '' : `${proxmox.programs}/`;
}

/** Writes these programs. `self`: Node and the file of this program. */
export function writePrograms(
  { proxmox, state_dir }: Pick<Config, 'proxmox' | 'state_dir'>,
  self: readonly string[],
): void {
  if (!proxmox.api) return;
  const folder = join(state_dir, FOLDER);
  const file = join(folder, 'api.json');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const api: ApiFile = { ...proxmox.api, token_file: secretPath(proxmox.api.token_file) };
  writeFileSync(file, JSON.stringify(api), { mode: 0o600 });
  const [node = process.execPath, program = ''] = self;
  for (const name of PROXMOX_PROGRAMS) {
    const path = join(folder, name);
    const text = `#!${node}\nprocess.argv.splice(2, 0, 'proxmox', ${JSON.stringify(name)}, ${JSON.stringify(file)});\nawait import(${JSON.stringify(pathToFileURL(program).href)});\n`;
    writeFileSync(path, text, { mode: 0o700 });
    chmodSync(path, 0o700);
  }
}
