import { globSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { composeRulesOf } from '../config/compose-limits.ts';
import { parseConfig } from '../config/load.ts';
import { checkConfig } from './check-config.ts';
import { applyOpenings, formatSuggestions, suggest } from './suggest.ts';

const AGENT = `agent: host
trust:
  - name: homelab
    key: "ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="
    repository: org/homelab
    allow: [{ actions: [rollout], stacks: ["*"] }]
`;
const rulesOf = (stack: string, compose = 'compose: { ports: 1024-65535 }\n') =>
  composeRulesOf(parseConfig(`${AGENT}${compose}`, 'agent.yaml'), stack);

/** Configs of stacks as homelabs have them: each notes its stack in its name. */
const RENDERED = globSync('test/fixtures/rendered/*.json').filter(path => !path.includes('.newer.'));
const read = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

describe('suggested exceptions', () => {
  it.each(RENDERED.map(path => [basename(path, '.json'), path] as const))(
    'let the stack %s pass once their text is in agent.yaml, and each of them is needed',
    (stack, path) => {
      const config = read(path);
      const rules = rulesOf(stack);
      const suggestions = suggest(config, rules);
      expect(suggestions.blocked).toEqual([]);
      const text = formatSuggestions(stack, suggestions);
      if (suggestions.needed.length === 0) {
        expect(text).toContain('needs no exception');
        expect(checkConfig(config, rules)).toEqual([]);
        return;
      }
      const pasted = text.replace('compose:\n', 'compose:\n  ports: 1024-65535\n');
      expect(checkConfig(config, rulesOf(stack, pasted)), text).toEqual([]);
      expect(checkConfig(config, rulesOf('another', pasted)), text).not.toEqual([]);
      for (const one of suggestions.needed) {
        const others = suggestions.needed.filter(other => other !== one).map(({ opening }) => opening);
        expect(checkConfig(config, applyOpenings(rules, others)), JSON.stringify(one)).not.toEqual([]);
      }
    },
  );

  it('are written with the risk and the reasons of each line', () => {
    const config = read('test/fixtures/rendered/plex-host-gpu.json');
    expect(formatSuggestions('plex-host-gpu', suggest(config, rulesOf('plex-host-gpu')))).toBe(
      `compose:
  grants:
    - stack: plex-host-gpu
      allow:
        # The container sees the host’s network, processes, memory or mounts, past published ports.
        # service plex: key "network_mode" is the host’s
        - host-namespaces
      binds:
        # Containers only read it.
        # service plex: key "volumes.2" binds /etc/localtime, which is outside of the stack’s folder
        - /etc/localtime:ro
        # Containers read it and write it.
        # service qbittorrent: key "volumes.1" binds /mnt/media, which is outside of the stack’s folder
        # service sonarr: key "volumes.1" binds /mnt/media, which is outside of the stack’s folder
        - /mnt/media
      devices:
        # Containers use this device.
        # service plex: key "devices.0" uses the device /dev/dri
        - /dev/dri`,
    );
  });

  it('name what nothing allows, and what to write instead', () => {
    const config = read('test/fixtures/rendered/gpu-models.newer.json');
    const suggestions = suggest(config, rulesOf('gpu-models'));
    expect(suggestions.blocked).toHaveLength(2);
    const text = formatSuggestions('gpu-models', suggestions);
    expect(text).toContain('# Nothing allows this. service database: key "provider" is not allowed:');
    expect(text).toContain('Use a service with an image');
    expect(text).toContain('        - docker-socket');
  });

  it('begin with the warnings about the stack, each as a comment of one line', () => {
    const text = formatSuggestions('web', { needed: [], blocked: [] }, ['one', 'two\ncompose: {}\u2028x']);
    expect(text.split('\n')).toEqual([
      '# Warning: one',
      '# Warning: two compose: {} x',
      '# The stack "web" needs no exception.',
    ]);
  });
});
