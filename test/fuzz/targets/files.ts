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
import { mutateText, mutateValue } from '../mutate.ts';
import { admitted, crashed, FINE, LET_IN, type Target } from '../target.ts';

const INTENTS = globSync('intents/examples/*.yaml').map(file => readFileSync(file, 'utf8'));
const KEY = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
const AGENT = /^```yaml agent\n(.*?)^```/ms.exec(readFileSync('docs/policy.md', 'utf8'))?.[1] ?? '';
/** The time limit of a case in milliseconds, which an expanding input exceeds. */
const TIMEOUT_MS = 1_000;

/** Intent files. An accepted intent is valid again, and none of its names is an option, a path or a key of a prototype. */
export const intents: Target = {
  name: 'intents',
  run(random) {
    const text = mutateText(random.pick(INTENTS), random, 6);
    const started = performance.now();
    try {
      const loaded = loadIntents([{ file: 'x.yaml', text }]);
      if (performance.now() - started > TIMEOUT_MS) return crashed('it took too long', text);
      for (const { intent } of loaded) {
        if (!Intent.safeParse(intent).success) return admitted('an invalid intent', text);
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
      if (performance.now() - started > TIMEOUT_MS) return crashed('it took too long', text);
    }
    return ({} as Record<string, unknown>).polluted === undefined ? FINE : crashed('a prototype was changed', text);
  },
};

/** agent.yaml. An accepted file trusts only senders that it names, and each entry has rules. */
export const configs: Target = {
  name: 'configs',
  run(random) {
    const text = mutateText(AGENT, random, 5);
    try {
      const config = parseConfig(text, 'agent.yaml');
      for (const entry of config.trust) {
        if (entry.key === undefined && !entry.github) return admitted('an entry that matches every sender', text);
        if (entry.allow.length === 0) return admitted('an entry without rules', text);
      }
    } catch (error) {
      if (!(error instanceof ConfigError)) return crashed(error, text);
      if (!/agent\.yaml/.test(error.message)) return crashed(`an error without a position: ${error.message}`, text);
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
const policyCases = fc.record({
  allow: fc.array(rules, { minLength: 1, maxLength: 4 }),
  deny: fc.array(
    fc.record({ actions: fc.option(actions, { nil: undefined }), stacks: fc.uniqueArray(names, { minLength: 1 }) }),
    { maxLength: 2 },
  ),
  stack: fc.constantFrom('a', 'b', 'stack-a', 'stack-b', 'other'),
  service: fc.option(fc.constantFrom('a', 'b', 'web'), { nil: undefined }),
});

/** The decisions of the policy against a reference that tries each rule with regular expressions. */
export const policies: Target = {
  name: 'policies',
  run(random) {
    const [value] = fc.sample(policyCases, { numRuns: 1, seed: random.below(2 ** 31) });
    if (!value) return FINE;
    const entry = TrustEntry.parse({ name: 'x', key: KEY, repository: 'o/r', allow: value.allow, deny: value.deny });
    const intent = Intent.parse({ action: 'rollout', stack: value.stack, service: value.service });
    const matches = (patterns: string[], name: string) =>
      patterns.some(pattern => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(name));
    const isDenied = value.deny.some(
      rule => (rule.actions?.includes('rollout') ?? true) && matches(rule.stacks, value.stack),
    );
    const isAllowed = value.allow.some(
      rule =>
        rule.actions.includes('rollout') &&
        matches(rule.stacks, value.stack) &&
        (rule.services === undefined || (value.service !== undefined && matches(rule.services, value.service))),
    );
    const { refusal } = evaluateRules(
      intent,
      { event: 'push', approval: null, readOnly: true, at: new Date(), stacks: [{ name: value.stack }] },
      entry,
    );
    if ((refusal === undefined) !== (isAllowed && !isDenied))
      return admitted(`answered ${refusal?.code ?? 'allowed'}`, value);
    return refusal ? FINE : LET_IN;
  },
};

/** The host names of requests to the agent. */
export const hosts: Target = {
  name: 'hosts',
  run(random) {
    const site = { agent: 'whitebox', doors: { hosts: ['box.example.org'] } };
    const host = mutateText(
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
      if (!isOwnHost(host, site)) return FINE;
    } catch (error) {
      return crashed(error, host);
    }
    const name = host.toLowerCase().replace(/:\d+$/, '');
    const isOwn =
      /^[\d.]+$|^\[?[\da-f:.]+(%[^\]]*)?\]?$|^[a-z0-9-]+\.?$|^[a-z0-9-]+\.[a-z0-9-]+\.ts\.net\.?$|^box\.example\.org$/.test(
        name,
      );
    return isOwn ? LET_IN : admitted('a name of another host', host);
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

/** Manifests of backups, which are stored in folders that others may write to. */
export const manifests: Target = {
  name: 'manifests',
  run(random) {
    const text = JSON.stringify(mutateValue(MANIFEST as never, random));
    try {
      const manifest = parseManifest(random.below(4) === 0 ? mutateText(text, random) : text);
      if (!manifest) return FINE;
      const values = [
        manifest.snapshot,
        manifest.image,
        manifest.database,
        manifest.parent,
        manifest.name,
        manifest.source,
        ...(manifest.parts ?? []),
      ];
      const option = values.find(value => value?.startsWith('-'));
      if (option !== undefined) return admitted(`an option: ${option}`, text);
      const inside = [
        manifest.parent,
        manifest.name,
        ...(manifest.parts ?? []),
        ...(manifest.kind === 'plex' ? [] : [manifest.file]),
      ];
      const outside = inside.find(
        value => value !== undefined && (value.includes('/') || value === '..' || value === '.'),
      );
      if (outside !== undefined) return admitted(`a path: ${outside}`, text);
      if ([...values, manifest.file].some(value => value !== undefined && /[\0\r\n]/.test(value)))
        return admitted('a control character', text);
      if (/(^|[/:])\.\.(\/|$)/.test(manifest.source)) return admitted('a source that climbs', text);
      return LET_IN;
    } catch (error) {
      return crashed(error, text);
    }
  },
};

/** The output of programs on its way into the runner's log. */
export const logs: Target = {
  name: 'logs',
  async run(random) {
    const pieces = Array.from({ length: 1 + random.below(4) }, () =>
      mutateText(
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
    let written = '';
    const sink = new Writable({
      write(chunk, _encoding, done) {
        written += String(chunk);
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
    return commandsObeyed(written).length === 0 ? FINE : admitted('a command that the runner obeys', pieces);
  },
};

/** Env files, whose values must be redacted. */
export const secrets: Target = {
  name: 'secrets',
  run(random) {
    const text = mutateText(
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
      const redacted = redactor.text(`before ${values.join(' ')} ${JSON.stringify(values)} after`);
      const leaked = values.find(value => redacted.includes(value) && !/^\*+$/.test(value));
      return leaked === undefined ? FINE : admitted('a secret that is not redacted', { text, leaked });
    } catch (error) {
      return crashed(error, text);
    }
  },
};
