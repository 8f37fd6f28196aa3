// Sends a prompt to a replica that has its models on the device, as GET /preload/locate tells. For nginx's njs, 0.7 or newer.
//
// It fails open: whatever goes wrong here, the prompt goes to any replica.

const INPUTS = ['ckpt_name', 'unet_name', 'vae_name'];
const ADDRESS = /^http:\/\/(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$/;

// sub/dir/model.safetensors -> model: the name that a model has where the settings give it none
function stem(file) {
    return file.split('\\').join('/').split('/').pop().replace(/\.[^.]+$/, '');
}

// The models that a prompt in API format loads, those that take longest first
function models(prompt) {
    const found = [];
    Object.keys(prompt).forEach(function (id) {
        const inputs = prompt[id].inputs || {};
        const clips = ['clip_name', 'clip_name1', 'clip_name2', 'clip_name3', 'clip_name4']
            .filter(function (key) { return typeof inputs[key] === 'string'; })
            .map(function (key) { return stem(inputs[key]); });
        const names = INPUTS
            .filter(function (key) { return typeof inputs[key] === 'string'; })
            .map(function (key) { return stem(inputs[key]); });
        names.forEach(function (name) { found.unshift(name); });
        if (clips.length) {
            found.push(clips.join('+'));
        }
    });
    return found.filter(function (name, i) { return found.indexOf(name) === i; }).slice(0, 16);
}

async function ask(r, path, args) {
    const reply = await r.subrequest(path, {method: 'GET', args: args});
    return reply.status === 200 ? JSON.parse(reply.responseText).replicas : [];
}

async function locate(r, names) {
    const args = names.map(function (name) { return 'model=' + encodeURIComponent(name); }).join('&');
    return names.length ? await ask(r, '/_preload/locate', args) : [];
}

function send(r, replica) {
    if (replica && ADDRESS.test(replica.address)) {
        r.variables.replica_address = replica.address;
        r.variables.replica_id = replica.id;
        r.internalRedirect('@chosen');
    } else {
        r.internalRedirect('@any');
    }
}

// POST /prompt
async function prompt(r) {
    let chosen = null;
    try {
        const names = models(JSON.parse(r.requestText).prompt);
        let found = await locate(r, names);
        if (!found.length && names.length > 1) {  // nobody has all of them: who has the first?
            found = await locate(r, names.slice(0, 1));
        }
        // queues are up to two seconds old: chance among the shortest, or all of a burst would go to one
        const short = found.filter(function (one) { return one.queue <= found[0].queue + 1; });
        chosen = short[Math.floor(Math.random() * short.length)];
    } catch (error) {
        r.error('gateway: ' + error.message);
    }
    send(r, chosen);
}

// Everything else: the result of a prompt is where the prompt was, and the answer to it said where
async function rest(r) {
    let chosen = null;
    const id = r.headersIn['X-Replica'];
    try {
        if (id) {
            chosen = (await ask(r, '/_preload/replicas', '')).find(function (one) { return one.id === id; });
        }
    } catch (error) {
        r.error('gateway: ' + error.message);
    }
    send(r, chosen);
}

export default {prompt, rest};
