import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dockerSocket, freePort } from './host.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/world');

/**
 * Copies a stack of fixtures/world to a folder, with an image of this host in place of `local/test`, free ports, short waits,
 * and this machine's socket of the engine. `env` is added to its `.env`. All other bytes stay.
 */
export async function copyCase(
  name: string,
  folder: string,
  image: string,
  env: Record<string, string>,
): Promise<void> {
  cpSync(join(FOLDER, name), folder, { recursive: true });
  const ports = new Map<string, number>();
  for (const file of readdirSync(folder)) {
    if (!/\.ya?ml$/.test(file)) continue;
    // Some files are not UTF-8.
    const text = readFileSync(join(folder, file), 'latin1');
    for (const { 0: port } of text.matchAll(PUBLISHED)) if (!ports.has(port)) ports.set(port, await freePort());
    const changed = text
      .replace(PUBLISHED, port => String(ports.get(port)))
      .replace(/^ +stop_grace_period: 30s\n/m, '')
      .replace(
        /^( +)image: (local\/test:\w+|.*local\/test.*\})(\r?)$/gm,
        '$1image: $2$3\n$1pull_policy: never$3\n$1stop_grace_period: 0s$3',
      )
      .replace('image: "local/test:1",', 'image: "local/test:1", pull_policy: never,')
      .replaceAll('local/test', image)
      .replace(/interval: \d+s/g, 'interval: 1s')
      .replace('sleep 2;', '')
      .replace(/(source: |- )\/var\/run\/docker\.sock/g, `$1${dockerSocket()}`);
    writeFileSync(join(folder, file), changed, 'latin1');
  }
  const lines = Object.entries(env).map(([key, value]) => `${key}=${value}\n`);
  if (lines.length > 0) writeFileSync(join(folder, '.env'), lines.join(''), { flag: 'a' });
}

/** A port of the host in a line of `ports`. */
const PUBLISHED = /(?<=^ +ports: \[.*"(?:127\.0\.0\.1:)?)\d+(?=:\d+(?:\/\w+)?")/gm;
