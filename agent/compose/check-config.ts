import type { ComposeRules, Violation } from '../plan/compose-config.ts';
import { isUnder } from '../plan/paths.ts';
import { below, type ComposeNode, isNode, type Place, refuse } from './allow-list/key-rule.ts';
import { root } from './allow-list/root.ts';
import { placeMounts } from './list-mounts.ts';

/**
 * Checks the JSON of `docker compose config --format json --profile "*"` against the allow-list. It reads nothing of the
 * host: links in paths are checked right before the start, by the step `prepare-mounts`.
 */
export function checkConfig(config: unknown, rules: ComposeRules): Violation[] {
  const found: Violation[] = [];
  const node: ComposeNode = isNode(config) ? config : {};
  const at: Place = { path: [], rules, config: node, found };
  root.check(config, at);
  checkDollars(node, at);
  // Mounts are listed only of a config whose form is known.
  if (found.every(({ opens }) => opens.length > 0)) checkNesting(at);
  return found;
}

/** Compose reads the checked config again, and replaces `$NAME` in it. Rendering writes each literal `$` twice. */
function checkDollars(value: unknown, at: Place): void {
  if (typeof value === 'string') {
    if (/(?<!\$)(\$\$)*\$(?!\$)/.test(value)) refuse(at, ' has a variable that is not replaced');
  } else if (Array.isArray(value)) {
    for (const [index, one] of value.entries()) checkDollars(one, below(at, index));
  } else if (isNode(value)) {
    for (const [key, one] of Object.entries(value)) checkDollars(one, below(at, key));
  }
}

/**
 * Refuses a mount below a folder that a container of this file writes: the container could replace it with a link. The same
 * folder may be mounted twice, because a container can't replace the root of its own mount.
 */
function checkNesting(at: Place): void {
  if (at.rules.grants.includes('nested-binds')) return;
  const mounts = placeMounts(at.config, at.rules);
  const written = mounts.filter(({ writable }) => writable).map(({ source }) => source);
  for (const { source, path } of mounts) {
    const outer = written.find(one => isUnder(source, one) && !isUnder(one, source));
    if (outer !== undefined)
      refuse({ ...at, path }, ` mounts ${source}, which is in ${outer}, which a container may write`, [
        { grant: 'nested-binds' },
      ]);
  }
}
