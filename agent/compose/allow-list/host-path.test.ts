import { expect, it } from 'vitest';
import { bind, config, type Node, RULES } from '../../../test/fixtures/rendered-config.ts';
import type { ComposeRules } from '../../plan/compose-config.ts';
import { checkConfig } from '../check-config.ts';

it('a bind needs more than a list for folders by which the host is controlled', () => {
  const allowed = (source: string, more: Node, rules: Partial<ComposeRules>) =>
    checkConfig(config(bind(source, more)), { ...RULES, binds: ['/'], ...rules }).length === 0;
  for (const parent of ['/', '/run', '/var/run', '/var/lib', '/var/lib/docker', '/var/lib/docker/overlay2/x']) {
    expect(allowed(parent, { read_only: true }, {}), parent).toBe(false);
    expect(allowed(parent, { read_only: true }, { grants: ['binds'] }), parent).toBe(false);
    expect(allowed(parent, { read_only: true }, { grants: ['docker-socket'] }), parent).toBe(true);
  }
  for (const kernel of ['/proc', '/sys', '/proc/sys/kernel', '/sys/fs/cgroup']) {
    expect(allowed(kernel, { read_only: true }, {}), kernel).toBe(true);
    expect(allowed(kernel, {}, {}), kernel).toBe(false);
    expect(allowed(kernel, {}, { grants: ['privileged'] }), kernel).toBe(true);
  }
  expect(allowed('/var/lib/docker/volumes/x', {}, {})).toBe(true);
});
