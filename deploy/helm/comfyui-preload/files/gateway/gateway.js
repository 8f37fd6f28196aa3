// Sends each prompt to a replica that has its models on the device, and whatever else a client wants to the replica where its
// prompts are. For nginx's njs, 0.7 or newer.
//
// - A client says where it belongs with the header X-Replica, with ?replica= or with the cookie `replica`; every answer has the
//   header and, for browsers, the cookie.
// - A prompt is delivered once. It goes to another replica only if no connection was made, or if the replica refused it (503).
// - Results of a replica that is gone are 410, not an empty answer of another one.

import fs from 'fs';

const ADDRESS = /^https?:\/\/(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$/;
const ID = /^[A-Za-z0-9_.:\[\]-]{1,100}$/;
// Of these a request without a replica, or with one that is gone, has no other place to go.
const OF_ONE_REPLICA = /^\/(api\/)?(history\/.|view$|view\/|interrupt$|jobs\/.)/;

// sub/dir/model.safetensors -> model: the name that a model has where the settings give it none
function stem(file) {
    return file.split('\\').join('/').split('/').pop().replace(/\.[^.]+$/, '');
}

// The models that a prompt in API format loads: the diffusion models first, then text encoders, then the rest
function models(prompt) {
    const first = [], second = [], third = [];
    Object.keys(prompt || {}).forEach(function (id) {
        const inputs = (prompt[id] || {}).inputs || {};
        function named(key) { return typeof inputs[key] === 'string' ? [stem(inputs[key])] : []; }
        first.push.apply(first, named('unet_name').concat(named('ckpt_name')));
        const clips = ['clip_name', 'clip_name1', 'clip_name2', 'clip_name3', 'clip_name4']
            .reduce(function (all, key) { return all.concat(named(key)); }, []);
        if (clips.length) {
            second.push(clips.join('+'));
        }
        third.push.apply(third, named('vae_name'));
    });
    const found = first.concat(second, third);
    return found.filter(function (name, i) { return found.indexOf(name) === i; }).slice(0, 16);
}

// The header for `registry.access: token`; the file is read each time, so that a new token counts at once
function authorization(r) {
    const file = r.variables.gateway_token_file;
    if (!file) {
        return '';
    }
    try {
        return 'Bearer ' + fs.readFileSync(file, 'utf8').trim();
    } catch (error) {
        r.error('gateway: ' + error.message);
        return '';
    }
}

async function ask(r, path, args) {
    const reply = await r.subrequest(path, {method: 'GET', args: args || ''});
    if (reply.status !== 200) {
        r.error('gateway: ' + path + ' is ' + reply.status + (reply.status === 401 ? ': the token is missing, or another one' : ''));
    }
    return reply.status === 200 ? JSON.parse(reply.responseText).replicas : null;
}

// All replicas, or null if nobody can be asked
async function fleet(r) {
    const found = await ask(r, '/_preload/replicas');
    return found && found.filter(function (one) { return ADDRESS.test(one.address) && ID.test(one.id); });
}

async function locate(r, names) {
    if (!names.length) {
        return [];
    }
    const args = names.map(function (name) { return 'model=' + encodeURIComponent(name); }).join('&');
    const found = await ask(r, '/_preload/locate', args) || [];
    const there = found.filter(function (one) { return one.at_place; });
    return (there.length ? there : found).map(function (one) { return one.id; }); // moving weights is better than reading files
}

function refuse(r, status, code, message) {
    r.headersOut['Content-Type'] = 'application/json; charset=utf-8';
    r.headersOut['Cache-Control'] = 'no-store';
    if (status === 503) {
        r.headersOut['Retry-After'] = '5';
    }
    if (status === 410) {
        r.headersOut['Set-Cookie'] = 'replica=; Path=/; Max-Age=0';
    }
    r.return(status, JSON.stringify({error: {code: code, message: message}}) + '\n');
}

// Where the client says that it belongs, and whether it said so on purpose
function wish(r) {
    const cookie = /(?:^|;\s*)replica=([^;]+)/.exec(r.headersIn['Cookie'] || '');
    const asked = r.headersIn['X-Replica'] || r.args.replica;
    const id = asked || (cookie && cookie[1]);
    return {id: id && ID.test(id) ? id : id ? '?' : '', explicit: !!asked};
}

function tried(r) {
    return (r.variables.replica_tried || '').split(' ');
}

// Queues are up to two seconds old: chance among the shortest, or all of a burst would go to one
function shortest(some) {
    const least = some.reduce(function (min, one) { return Math.min(min, one.queue); }, Infinity);
    const short = some.filter(function (one) { return one.queue <= least + 1; });
    return short[Math.floor(Math.random() * short.length)];
}

// The replica for a prompt: a warm one, unless its queue is so much longer that a cold one is done sooner
async function choose(r, all, names) {
    const usable = all.filter(function (one) { return one.ready && tried(r).indexOf(one.id) < 0; });
    let warm = await locate(r, names);
    if (!warm.length && names.length > 1) {
        warm = await locate(r, names.slice(0, 1)); // the diffusion model takes longest
    }
    const any = shortest(usable);
    const best = shortest(usable.filter(function (one) { return warm.indexOf(one.id) >= 0; }));
    return best && best.queue <= any.queue + Number(r.variables.gateway_spill) ? best : any;
}

function send(r, replica, where) {
    r.variables.replica_address = replica.address;
    r.variables.replica_id = replica.id;
    r.variables.replica_tried = (tried(r).concat(replica.id)).join(' ').trim();
    const cookie = /(?:^|;\s*)replica=([^;]+)/.exec(r.headersIn['Cookie'] || '');
    r.variables.replica_cookie = cookie && cookie[1] === replica.id
        ? '' : 'replica=' + replica.id + '; Path=/; HttpOnly; SameSite=Lax';
    r.internalRedirect(where);
}

async function route(r, isPrompt) {
    const all = await fleet(r);
    if (!all) {
        return refuse(r, 503, 'no_replica', 'no replica answers');
    }
    const wanted = wish(r);
    const there = all.find(function (one) { return one.id === wanted.id; });
    const where = isPrompt ? '@prompt' : '@chosen';
    if (there && tried(r).indexOf(there.id) < 0 && (wanted.explicit || !isPrompt || there.ready)) {
        return send(r, there, where);
    }
    if (wanted.id && !there && (wanted.explicit || OF_ONE_REPLICA.test(r.uri))) {
        return refuse(r, 410, 'replica_gone', 'the replica that was asked for is gone, and its results with it');
    }
    if (!wanted.id && OF_ONE_REPLICA.test(r.uri)) {
        return refuse(r, 400, 'replica_missing', 'this is on one replica only: send X-Replica, ?replica= or the cookie');
    }
    const names = isPrompt ? models(JSON.parse(r.requestText || '{}').prompt) : [];
    const chosen = await choose(r, all, names);
    return chosen ? send(r, chosen, where) : refuse(r, 503, 'no_replica', 'no replica is ready');
}

async function guarded(r, isPrompt) {
    try {
        if (r.variables.gateway_closed && r.method !== 'OPTIONS') {
            return refuse(r, 403, 'closed', 'this is not open to the outside');
        }
        await route(r, isPrompt);
    } catch (error) {
        r.error('gateway: ' + error.message);
        if (error instanceof SyntaxError) {
            return refuse(r, 400, 'bad_request', 'the body is not JSON');
        }
        refuse(r, 502, 'gateway', 'the gateway could not choose a replica');
    }
}

// True if the last attempt never had a connection: then nothing was delivered
function unreached(r) {
    const times = (r.variables.upstream_connect_time || '-').split(/[,:] */);
    return times[times.length - 1].trim() === '-';
}

// POST /prompt; GET /prompt is the queue's length, of the client's replica
async function prompt(r) {
    await guarded(r, r.method === 'POST');
}

async function rest(r) {
    await guarded(r, false);
}

async function failed_prompt(r) {
    const refused = r.variables.upstream_status && /503$/.test(r.variables.upstream_status);
    if (!refused && !unreached(r)) {
        return refuse(r, 502, 'replica_failed',
            'the replica ended while it had the prompt; it may have been queued there, and is lost with it');
    }
    if (wish(r).explicit) {
        return refuse(r, refused ? 503 : 410, refused ? 'replica_draining' : 'replica_gone',
            'the replica that was asked for takes no prompts');
    }
    await guarded(r, true);
}

async function failed(r) {
    if (unreached(r) && (r.method === 'GET' || r.method === 'HEAD') && !wish(r).explicit && !OF_ONE_REPLICA.test(r.uri)) {
        return await guarded(r, false);
    }
    if (unreached(r)) {
        return refuse(r, 410, 'replica_gone', 'the replica cannot be reached any more');
    }
    refuse(r, 502, 'replica_failed', 'the replica ended before its answer did');
}

export default {authorization, prompt, rest, failed, failed_prompt};
