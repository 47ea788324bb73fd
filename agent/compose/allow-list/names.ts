import { custom, isNode, type KeyRule, type Place, printable, refuse } from './key-rule.ts';

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/;

/** The form of names of containers, volumes and networks. */
export function isName(value: unknown): value is string {
  return typeof value === 'string' && NAME.test(value);
}

/**
 * Checks the name of a volume or network: one of this project, or one of the list. A name such as `nas_media_data` belongs
 * to the project `nas_media` if the host has it, and not to `nas`.
 */
export function checkOwned(list: 'volumes' | 'networks', name: unknown, at: Place): void {
  if (!isName(name)) refuse(at, ` names ${printable(name)}, which is not a name of the engine`);
  else if (!isOwn(name, at) && !at.rules[list].includes(name))
    refuse(at, ` names ${printable(name)}, which does not belong to the project "${at.rules.project}"`, [
      { list, value: name },
    ]);
}

function isOwn(name: string, { rules: { project: allowed, others }, config }: Place): boolean {
  // A file with another project's name is refused for that alone, and not for each name in it.
  const project = typeof config.name === 'string' ? config.name : allowed;
  return (
    name.startsWith(`${project}_`) &&
    !others.some(other => other.startsWith(`${project}_`) && name.startsWith(`${other}_`))
  );
}

/** Checks that a container may be joined by name: it can belong to any stack. */
export function checkContainer(name: string, at: Place): void {
  if (!isName(name)) refuse(at, ` names the container ${printable(name)}, which is not a name of the engine`);
  else if (!at.rules.containers.includes(name))
    refuse(
      at,
      ` joins the container ${name}, which can belong to another stack. "service:NAME" names one of this stack`,
      [{ list: 'containers', value: name }],
    );
}

export function isService(name: string, { config }: Place): boolean {
  return isNode(config.services) && Object.hasOwn(config.services, name);
}

/** A namespace of a container: these values, another service's, the host's, or another container's. */
export function namespace(...harmless: string[]): KeyRule {
  return custom('nothing for its own and for `service:NAME`; `host-namespaces`, list `containers`', (value, at) => {
    if (!checkJoined(value, harmless, at))
      refuse(at, ` has a value that this agent does not know: ${printable(value)}`);
  });
}

/** `network_mode`: a namespace, or the name of a network. */
export const networkMode: KeyRule = custom(
  'nothing for `none`, `bridge` and `service:NAME`; `host-namespaces`, lists `containers` and `networks`',
  (value, at) => {
    if (!checkJoined(value, ['', 'none', 'bridge', 'default'], at)) checkOwned('networks', value, at);
  },
);

/** Checks the values that all namespaces have. Returns false for another value. */
function checkJoined(value: unknown, harmless: string[], at: Place): boolean {
  if (typeof value !== 'string') return false;
  if (harmless.includes(value)) return true;
  const [kind = '', name = ''] = value.split(/:(.*)/s);
  if (value === 'host') {
    if (!at.rules.grants.includes('host-namespaces')) refuse(at, ' is the host’s', [{ grant: 'host-namespaces' }]);
  } else if (kind === 'service') {
    if (!isService(name, at)) refuse(at, ` names the service ${printable(name)}, which the file does not have`);
  } else if (kind === 'container') checkContainer(name, at);
  else return false;
  return true;
}
