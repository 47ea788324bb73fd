import { expect, it } from 'vitest';
import { Random } from '../../../test/faults/random.ts';
import { listDangers } from '../../../test/fuzz/compose/dangers.ts';
import { generateConfig, insertUnknown } from '../../../test/fuzz/compose/generate.ts';
import { composeRules } from '../../executors/exam.ts';
import { COMPOSE_GRANTS, type ComposeRules } from '../../plan/compose-config.ts';
import { checkConfig } from '../check-config.ts';

const CASES = Number(process.env.CASES || 10_000);
const SEED = Number(process.env.SEED || 14);

const LISTS: Partial<ComposeRules> = {
  binds: ['/srv/allowed'],
  readOnlyBinds: ['/srv/readable', '/etc'],
  ports: [[8000, 9000]],
  devices: ['/dev/dri'],
  capabilities: ['NET_ADMIN'],
  containers: ['victim'],
  networks: ['victim_default', 'proxy'],
  volumes: ['victim_db'],
};

it('no generated config that is allowed reaches past its stack, more grants allow more, and no unknown key is allowed', {
  timeout: 120_000 + CASES * 20,
}, () => {
  const counts = { allowed: 0, allowedByGrants: 0, unknown: 0 };
  for (let number = 0; number < CASES; number++) {
    const random = new Random(SEED + number * 0x9e3779b1);
    const config = generateConfig(random);
    const some = random.below(2) === 0 ? COMPOSE_GRANTS.filter(() => random.below(3) === 0) : [];
    const rules = composeRules('app', { ...(random.below(2) === 0 ? LISTS : {}), grants: some });
    const isAllowed = checkConfig(config, rules).length === 0;
    const all = {
      ...rules,
      ...LISTS,
      ports: [...rules.ports, [8000, 9000] as [number, number]],
      grants: COMPOSE_GRANTS,
    };
    const isAllowedByAll = checkConfig(config, all).length === 0;
    const shown = () => `SEED=${SEED} case ${number}: ${JSON.stringify(rules.grants)} ${JSON.stringify(config)}`;
    if (isAllowed) {
      counts.allowed++;
      if (some.length > 0) counts.allowedByGrants++;
      expect(listDangers(config, rules), shown()).toEqual([]);
      expect(isAllowedByAll, shown()).toBe(true);
    }
    if (isAllowedByAll) {
      const place = insertUnknown(config, random);
      if (place === undefined) continue;
      counts.unknown++;
      const found = checkConfig(config, all);
      expect(found.length, `${place} in ${shown()}`).toBeGreaterThan(0);
    }
  }
  // A generator proves nothing if every config is refused.
  expect(counts.allowed).toBeGreaterThan(CASES / 20);
  expect(counts.allowedByGrants).toBeGreaterThan(CASES / 50);
  expect(counts.unknown).toBeGreaterThan(CASES / 10);
});
