import { globSync, readFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import fc from 'fast-check';
import { Log } from '../../../action/log.ts';
import { evaluateRules } from '../../../agent/admission/rules.ts';
import { ConfigError, parseConfig } from '../../../agent/config/load.ts';
import { TrustEntry } from '../../../agent/config/trust.ts';
import { parseManifest } from '../../../agent/plan/backup-manifest.ts';
import { readEnvFile } from '../../../agent/secrets/env-file.ts';
import { isOwnHost } from '../../../agent/server/http-access.ts';
import { Redactor } from '../../../agent/system/redactor.ts';
import { Intent } from '../../../intents/intent.ts';
import { loadIntents } from '../../../intents/load.ts';
import { InvalidIntents } from '../../../intents/problem.ts';
import { commandsObeyed } from '../../doubles/runner-log.ts';
import { mutated, mutatedValue } from '../mutate.ts';
import { admitted, crashed, FINE, LET_IN, type Target } from '../target.ts';

const INTENTS = globSync('intents/examples/*.yaml').map(file => readFileSync(file, 'utf8'));
const KEY = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
const AGENT = /^```yaml agent\n(.*?)^```/ms.exec(readFileSync('docs/policy.md', 'utf8'))?.[1] ?? '';
/** One case may take this long, in milliseconds: bombs take longer. */
const PATIENCE = 1_000;

/** Files of intents. What comes through is an intent again, and none of its names is an option, a path or a prototype's. */
export const intents: Target = {
  name: 'intents',
  one(random) {
    const text = mutated(random.pick(INTENTS), random, 6);
    const began = performance.now();
    try {
      const loaded = loadIntents([{ file: 'x.yaml', text }]);
      if (performance.now() - began > PATIENCE) return crashed('it took too long', text);
      for (const { intent } of loaded) {
        if (!Intent.safeParse(intent).success) return admitted('an intent that is none', text);
        for (const key of ['stack', 'service', 'source_container', 'id', 'host'] as const) {
          const value = (intent as Record<string, unknown>)[key];
          if (value !== undefined && !/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(String(value)))
            return admitted(`${key}: ${String(value)}`, text);
        }
        for (const key of ['source', 'destination', 'compose', 'from', 'to'] as const) {
          const value = (intent as Record<string, unknown>)[key];
          if (typeof value === 'string' && /^[-\s]|[\0\r\n]/.test(value)) return admitted(`${key}: ${value}`, text);
        }
      }
    } catch (error) {
      if (!(error instanceof InvalidIntents)) return crashed(error, text);
      if (performance.now() - began > PATIENCE) return crashed('it took too long', text);
    }
    return ({} as Record<string, unknown>).polluted === undefined ? FINE : crashed('a prototype was changed', text);
  },
};

/** agent.yaml. What comes through trusts only whom it names, and lets nobody do what no rule names. */
export const configs: Target = {
  name: 'configs',
  one(random) {
    const text = mutated(AGENT, random, 5);
    try {
      const config = parseConfig(text, 'agent.yaml');
      for (const entry of config.trust) {
        if (entry.key === undefined && !entry.github) return admitted('an entry that everybody fits', text);
        if (entry.allow.length === 0) return admitted('an entry without rules', text);
      }
    } catch (error) {
      if (!(error instanceof ConfigError)) return crashed(error, text);
      if (!/agent\.yaml/.test(error.message)) return crashed(`an error without a place: ${error.message}`, text);
    }
    return FINE;
  },
};

const names = fc.constantFrom('a', 'b', 'stack-a', 'stack-b', 'stack-*', '*', '*-a', 'st*-a');
const actions = fc.uniqueArray(fc.constantFrom('rollout', 'scale', 'rollback'), { minLength: 1 });
const rules = fc.record({
  actions,
  stacks: fc.uniqueArray(names, { minLength: 1 }),
  services: fc.option(fc.uniqueArray(names, { minLength: 1 }), { nil: undefined }),
});
const asked = fc.record({
  allow: fc.array(rules, { minLength: 1, maxLength: 4 }),
  deny: fc.array(
    fc.record({ actions: fc.option(actions, { nil: undefined }), stacks: fc.uniqueArray(names, { minLength: 1 }) }),
    { maxLength: 2 },
  ),
  stack: fc.constantFrom('a', 'b', 'stack-a', 'stack-b', 'other'),
  service: fc.option(fc.constantFrom('a', 'b', 'web'), { nil: undefined }),
});

/** A policy's answers against those of a reader who tries each rule by regular expressions. */
export const policies: Target = {
  name: 'policies',
  one(random) {
    const [value] = fc.sample(asked, { numRuns: 1, seed: random.below(2 ** 31) });
    if (!value) return FINE;
    const entry = TrustEntry.parse({ name: 'x', key: KEY, repository: 'o/r', allow: value.allow, deny: value.deny });
    const intent = Intent.parse({ action: 'rollout', stack: value.stack, service: value.service });
    const fits = (patterns: string[], name: string) =>
      patterns.some(one => new RegExp(`^${one.replaceAll('*', '.*')}$`).test(name));
    const isDenied = value.deny.some(
      rule => (rule.actions?.includes('rollout') ?? true) && fits(rule.stacks, value.stack),
    );
    const isAllowed = value.allow.some(
      rule =>
        rule.actions.includes('rollout') &&
        fits(rule.stacks, value.stack) &&
        (rule.services === undefined || (value.service !== undefined && fits(rule.services, value.service))),
    );
    const { refusal } = evaluateRules(intent, { event: 'push', approval: null, readOnly: true, at: new Date() }, entry);
    if ((refusal === undefined) !== (isAllowed && !isDenied))
      return admitted(`answered ${refusal?.code ?? 'allowed'}`, value);
    return refusal ? FINE : LET_IN;
  },
};

/** Names by which a request calls the agent. */
export const hosts: Target = {
  name: 'hosts',
  one(random) {
    const doors = { agent: 'whitebox', doors: { hosts: ['box.example.org'] } };
    const host = mutated(
      random.pick([
        'whitebox:8000',
        'box.example.org',
        'evil.example.org',
        '100.64.0.7:8000',
        '[::1]:8000',
        'x.tail1.ts.net',
        'localhost',
      ]),
      random,
      2,
    );
    try {
      if (!isOwnHost(host, doors)) return FINE;
    } catch (error) {
      return crashed(error, host);
    }
    const name = host.toLowerCase().replace(/:\d+$/, '');
    const isOwn =
      /^[\d.]+$|^\[?[\da-f:.]+(%[^\]]*)?\]?$|^[a-z0-9-]+\.?$|^[a-z0-9-]+\.[a-z0-9-]+\.ts\.net\.?$|^box\.example\.org$/.test(
        name,
      );
    return isOwn ? LET_IN : admitted('a name that is somebody else’s', host);
  },
};

const MANIFEST = {
  ...{ schema_version: 1, kind: 'sqlite', name: 'content', run: '0b7c2c1e-0000-4000-8000-000000000000' },
  ...{ at: '2026-11-21T06:00:00.000Z', source: 'vault:/data/app.db', bytes: 1, files: 1, sha256: 'a'.repeat(64) },
  ...{
    file: 'app.db',
    database: 'app',
    image: `sha256:${'b'.repeat(64)}`,
    parts: ['a.db'],
    parent: '20261120T060000.000Z',
  },
  ...{ snapshot: '843879b9', verified_at: '2026-11-21T06:01:00.000Z' },
};

/** Manifests of backups, which lie where others may write. */
export const manifests: Target = {
  name: 'manifests',
  one(random) {
    const text = JSON.stringify(mutatedValue(MANIFEST as never, random));
    try {
      const read = parseManifest(random.below(4) === 0 ? mutated(text, random) : text);
      if (!read) return FINE;
      const words = [
        read.snapshot,
        read.image,
        read.database,
        read.parent,
        read.name,
        read.source,
        ...(read.parts ?? []),
      ];
      const option = words.find(word => word?.startsWith('-'));
      if (option !== undefined) return admitted(`an option: ${option}`, text);
      const inside = [read.parent, read.name, ...(read.parts ?? []), ...(read.kind === 'plex' ? [] : [read.file])];
      const leads = inside.find(word => word !== undefined && (word.includes('/') || word === '..' || word === '.'));
      if (leads !== undefined) return admitted(`a path: ${leads}`, text);
      if ([...words, read.file].some(word => word !== undefined && /[\0\r\n]/.test(word)))
        return admitted('a control character', text);
      if (/(^|[/:])\.\.(\/|$)/.test(read.source)) return admitted('a source that climbs', text);
      return LET_IN;
    } catch (error) {
      return crashed(error, text);
    }
  },
};

/** What programs print, on its way into the runner's log. */
export const logs: Target = {
  name: 'logs',
  async one(random) {
    const pieces = Array.from({ length: 1 + random.below(4) }, () =>
      mutated(
        random.pick([
          '::error::x\n',
          '##[error]x\r',
          'plain text\n',
          '\u001b[31mred\u001b[0m\n',
          '::stop-commands::x\r\n',
          '',
        ]),
        random,
      ),
    );
    let told = '';
    const sink = new Writable({
      write(chunk, _encoding, done) {
        told += String(chunk);
        done();
      },
    });
    try {
      const log = new Log(sink);
      log.host('whitebox');
      for (const piece of pieces) await log.remote(piece);
      await log.end();
    } catch (error) {
      return crashed(error, pieces);
    }
    return commandsObeyed(told).length === 0 ? FINE : admitted('a command that the runner obeys', pieces);
  },
};

/** Env files, and what of their values is told. */
export const secrets: Target = {
  name: 'secrets',
  one(random) {
    const text = mutated(
      'DB_PASSWORD=s3cret-one\nTOKEN="two words $HOME"\nURL=\'postgres://u:p4ssword@h/d\'\n',
      random,
      5,
    );
    try {
      const redactor = new Redactor();
      const values = readEnvFile(text)
        .map(({ value }) => value)
        .filter(value => [...value].length >= 6);
      for (const value of values) redactor.add(value);
      const told = redactor.text(`before ${values.join(' ')} ${JSON.stringify(values)} after`);
      const leaked = values.find(value => told.includes(value) && !/^\*+$/.test(value));
      return leaked === undefined ? FINE : admitted('a secret that is told', { text, leaked });
    } catch (error) {
      return crashed(error, text);
    }
  },
};
