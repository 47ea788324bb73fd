import { resolve } from 'node:path';
import { renderSources } from '../../compose/render.ts';
import { formatSuggestions, suggest } from '../../compose/suggest.ts';
import { composeRulesOf } from '../../config/compose-limits.ts';
import { readConfig } from '../../config/load.ts';
import type { Arguments, Options } from '../commands.ts';
import { cliRefusals } from '../refusals.ts';

/** Prints the exceptions that a stack's compose file needs in agent.yaml. */
export async function policySuggestCommand(
  [stack]: Arguments<'policy suggest'>,
  { config: file, file: named, json }: Options<'policy suggest'>,
): Promise<number> {
  if (!/^[A-Za-z0-9][\w.-]*$/.test(stack))
    throw cliRefusals.wrongCall(`"${stack}" is not the name of a stack.`, 'Name a folder in stacks.root.');
  const config = readConfig(file);
  const rules = composeRulesOf(config, stack);
  const compose = named === undefined ? undefined : resolve(rules.dir, named);
  const render = (project: string) =>
    renderSources({ dir: rules.dir, compose, overlay: {} }, project, config.docker.config_dir);
  const first = await render(rules.project);
  // The names of volumes and networks start with the project's.
  const project = first.sources.name?.text ?? rules.project;
  const rendered = project === rules.project ? first : await render(project);
  const suggestions = suggest(rendered.config, rules);
  const { warnings } = rendered.sources;
  if (json) console.log(JSON.stringify({ stack, ...suggestions, warnings }, null, 2));
  else console.log(formatSuggestions(stack, suggestions, warnings));
  return suggestions.blocked.length === 0 ? 0 : 1;
}
