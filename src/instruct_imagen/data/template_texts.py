"""The sentences of `templates`: one per line, written by hand, checked by tests/test_templates.py.

How to add one: a caption brings its own article ("a fox on a beach"), so none stands before `{caption}`; a
subject has none and may be plural ("scissors"), so write "the {subject}" and let no verb agree with it;
`{style}` and `{control}` are names such as "watercolour painting" and "edge map"; `{a_style}` is the style
with the article it needs ("a watercolour painting", but "pixel art"). A marker stands where a noun would.
"""

_TEXT = """
{caption}
Draw {caption}.
Please draw {caption}.
Generate an image of {caption}.
Create a picture of {caption}.
Make an image that shows {caption}.
Show me {caption}.
I would like to see {caption}.
Can you draw {caption}?
Could you make me a picture of {caption}?
Paint {caption} for me.
I need an image of {caption}.
A picture of {caption}, please.
{caption}, please.
{caption}. Draw this.
{caption}. That is what I want to see.
Imagine {caption} and put it on the canvas.
Produce an illustration of {caption}.
Render {caption}.
Give me a picture with {caption}.
Image: {caption}
caption: {caption}
prompt: {caption}
Turn this caption into an image: {caption}.
Illustrate the following description: {caption}.
What would {caption} look like? Show me.
Visualise {caption}.
Let me see {caption}.
Depict {caption}.
Design an image around this idea: {caption}.
Here is a caption: {caption}. Make the matching picture.
Follow this text and generate a picture: {caption}.
Bring this scene to life: {caption}.
I am looking for a picture of {caption}.
My daughter asked for {caption}. Can you make that?
Synthesise an image from the text "{caption}".
Generate the scene described here: {caption}.
Your task is to produce one image of {caption}.
Would you mind drawing {caption} for me?
Compose an image in which one can see {caption}.
Make it look like this: {caption}.
Text to image: {caption}
An image of {caption}.
photo or drawing of {caption}
Only words this time: {caption}.
There is no reference for this one, just draw {caption}.
Take the sentence "{caption}" and turn it into pixels.
I have the words, you make the picture: {caption}.
Sketch out in full colour what this says: {caption}.
Fill the frame with {caption}.
For my slides I need {caption}.
We want an illustration for our website that shows {caption}.
Draw what I describe. Description: {caption}.
Subject of the picture: {caption}.
How about {caption}?
Try to draw {caption}.
Let us have a look at {caption}.
Think of {caption}. Now draw it.
Get me an image with {caption} in it.
I want {caption} in one picture.
A scene with {caption}.
Something simple today: {caption}.
Please generate a picture that matches the caption "{caption}".
Please create an image based on this description: {caption}.
The image should contain {caption}.
The picture ought to show {caption} and nothing that contradicts it.
Put {caption} into a picture.
new image, {caption}
Request: {caption}
Input text: {caption}. Output: the corresponding image.
Translate these words into an image: {caption}.
Convert the description to a picture. {caption}.
Prepare a picture whose caption could be "{caption}".
If someone wrote "{caption}" under a picture, how would that picture look?
Which image goes with the words "{caption}"? Create it.
Could I get {caption} as an image?
May I have a picture of {caption}?
Is it possible to see {caption}?
Do me a favour and draw {caption}.
You are an illustrator and the brief says {caption}.
A client ordered a picture of {caption}; deliver it.
Make sure the result shows {caption}.
Stick closely to this text while you draw: {caption}.
Draw exactly this: {caption}.
Give shape and colour to the following: {caption}.
In one image: {caption}.
{caption}. Generate this image.
{caption}. Could you draw that for me?
{caption}, as a picture.
{caption} (make an image of it)
"{caption}" is the title, and the picture is up to you.
I will describe a picture and you create it. It shows {caption}.
Today I feel like looking at {caption}.
For the cover of a children's book, draw {caption}.
Create {caption}.
Build a scene: {caption}.
Hey, can you come up with an image of {caption}?
Quick request, I need {caption}.
The text below describes an image. Generate that image. {caption}.
Without any reference picture, generate {caption}.
Show {caption} the way you picture it.
Output a picture of {caption}.
"""

_ART = """
{caption}, {style}
{caption} in {style} style
{style} of {caption}
Draw {caption} in {style} style.
Paint {caption} in the style of {a_style}.
Create a picture of {caption} with the look of {a_style}.
Generate {caption}, rendered as {a_style}.
Make {caption} look like {a_style}.
Show me {caption} as {a_style}.
Can you draw {caption} in {style} style?
Could I have {caption} as {a_style}?
What would {caption} look like as {a_style}?
{style} style, please: {caption}.
Use {style} as the style and draw {caption}.
Style: {style}. Content: {caption}.
caption: {caption}, style: {style}
style: {style}, caption: {caption}
Please create {caption} in {style} style.
I would like {caption}, and the style should be {style}.
I love the {style} look. Make me {caption} that way.
In {style} style, depict {caption}.
With the typical look of {style}, draw {caption}.
Give {caption} the appearance of {a_style}.
The picture shows {caption}; the style is {style}.
An artwork of {caption} in {style} style.
An art piece, {a_style}, with {caption}.
Produce art: {caption}, {style}.
Render {caption} the way {a_style} would look.
Imagine {caption} done as {a_style}.
How would {caption} come out as {a_style}? Show me.
Interpret {caption} as {a_style}.
Illustrate {caption}. Chosen style: {style}.
Think of the {style} look, then draw {caption}.
Let the result be recognisable as {a_style} while it shows {caption}.
For an exhibition of works in {style} style, make one that shows {caption}.
A gallery asked for {a_style} with {caption} as the motif.
My teacher wants {caption} in {style} style.
Put {caption} on the canvas as {a_style}.
Pick up your tools and do {caption} as {a_style}.
{caption}. Do it as {a_style}.
{caption}. The whole picture should look like {a_style}.
{caption}, but make it {a_style}
{caption}, made to look like {a_style}
{caption} as {a_style}
{caption} (style: {style})
{style} showing {caption}
{style} with {caption} as the subject
{style} style image of {caption}
Text to art: {caption} as {a_style}.
Generate an artistic image. It shows {caption} and follows the conventions of {style}.
Write nothing, just paint: {caption}, in {style} style.
Stylise {caption} as {a_style}.
Turn the words "{caption}" into {a_style}.
Translate "{caption}" into the visual language of {style}.
Convert this description into {a_style}: {caption}.
I need a poster with {caption} in {style} style.
We collect works in {style} style. Please add one of {caption}.
Please give me {a_style} that depicts {caption}.
Would you paint {caption} for me in {style} style?
Is there a way to see {caption} as {a_style}?
May I get {caption} in the style known as {style}?
Let me see {caption}, {style} style.
Show how {caption} would appear if you had to draw in {style} style.
Compose {caption} in keeping with {style}.
Design an image of {caption}, styled as {a_style}.
Draw {caption} so that everyone recognises {a_style}.
Take {caption} as the content and {style} as the manner.
Content first: {caption}. Then the style: {style}.
The motif is {caption} and the technique is {style}.
Motif: {caption} / technique: {style}
Your brief: {caption}. Your medium: {style}.
You work in {style} style only. Today's motif: {caption}.
A work of art that depicts {caption} and counts as {a_style}.
Depict {caption} with everything that makes {a_style} what it is.
Make an artwork, {style} in style, that portrays {caption}.
Portray {caption} through the means of {style}.
Picture {caption} in your mind, then express it as {a_style}.
Use the look and feel of {a_style} for {caption}.
Aim for {a_style} when you draw {caption}.
Follow the rules of {style} and create {caption}.
Stay true to the {style} style and show {caption}.
{style} please, with {caption}.
Something for my wall, in {style} style: {caption}.
In the manner of {a_style}: {caption}.
As {a_style}, show me {caption}.
Drawn as {a_style}: {caption}
Art style {style}, scene {caption}.
Scene: {caption}. Art style: {style}.
Draw this scene as {a_style}: {caption}.
Here is a scene, {caption}, and it should be drawn as {a_style}.
Apply the style {style} to a picture of {caption}.
No photograph this time. I want {caption} as {a_style}.
Not a photo but {a_style}: {caption}.
Create something beautiful, {caption} in {style} style.
If {caption} were to appear as {a_style}, what would we see?
How do you picture {caption} in {style} style?
Try the {style} style on {caption}.
Go for {a_style}; the scene is {caption}.
Generate this in {style} style: {caption}.
Whenever I see {caption}, I think of {a_style}. Draw it that way.
"""

_DEPTH = """
{caption}, depth from {ref1}
Use the depth map in {ref1} to draw {caption}.
Generate {caption} with the depth shown in {ref1}.
Follow the depth map {ref1} and create {caption}.
Create an image of {caption} that has the same depth as {ref1}.
depth: {ref1}, caption: {caption}
caption: {caption}, depth: {ref1}
depth map {ref1} + {caption}
Given the depth map {ref1}, generate {caption}.
Based on the depth image {ref1}, paint {caption}.
{ref1} is a depth map. Draw {caption} on it.
{ref1} shows how far away everything is. Draw {caption} accordingly.
The distances are in {ref1}, the content is {caption}.
Please draw {caption} and keep to the depth map {ref1}.
Could you turn the depth map {ref1} into {caption}?
Can you make {caption} out of this depth map, {ref1}?
What might {ref1} look like in colour if it were {caption}?
Render {caption} according to the depth information in {ref1}.
Let the depth map in {ref1} guide the layout of {caption}.
With {ref1} as the depth map, generate an image of {caption}.
Take the spatial layout from {ref1} and show {caption}.
I have a depth map, {ref1}. I want {caption}.
I rendered the depth of my scene in {ref1}. Please fill in {caption}.
Make a picture of {caption}. The depth has to match {ref1}.
{caption}. Arrange everything as in the depth map {ref1}.
{caption}, laid out in space like {ref1}.
{caption}. For near and far, see {ref1}.
{caption} with {ref1} as depth map
Produce {caption}; near and far are given by {ref1}.
Near things are marked in {ref1} and so are far ones. Draw {caption} to fit.
Depth to image: use {ref1} for {caption}.
Convert the depth map {ref1} to a picture of {caption}.
Colour in the depth map {ref1} so that it becomes {caption}.
Put flesh on the depth map {ref1}: {caption}.
Respect the geometry of {ref1} while drawing {caption}.
Preserve the 3D structure in {ref1} and generate {caption}.
Stick to the depth values of {ref1}. The scene is {caption}.
The scene has the geometry of {ref1} and shows {caption}.
Show {caption}, where each distance agrees with {ref1}.
Draw {caption} so that its depth map would be {ref1}.
If you estimated the depth of the result, you should get {ref1}. The result shows {caption}.
Which picture of {caption} has {ref1} as its depth map? Generate it.
Construct {caption} from the depth cues in {ref1}.
Use {ref1} for depth and this text for content: {caption}.
Use {ref1} as your stage and put {caption} on it.
Look at the depth in {ref1} and imagine {caption} there.
Referring to the depth map {ref1}, illustrate {caption}.
By referring to {ref1} for depth, generate an image of {caption}.
Conditioned on the depth {ref1}, synthesise {caption}.
An image of {caption} whose depth follows {ref1}.
A picture of {caption}, with foreground and background as in {ref1}.
Foreground and background come from {ref1}; draw {caption}.
Keep the foreground and the background of {ref1} and make it {caption}.
Keep the perspective of the depth map {ref1} but show {caption}.
Do not change the depth in {ref1}. Just make it {caption}.
Do not copy the greys of {ref1}, they only mean distance. Draw {caption}.
The grey picture {ref1} encodes distance. Use it for {caption}.
The shades in {ref1} tell you what is close and what is far. Paint {caption} from them.
See {ref1} for the depth. I want to see {caption}.
Have a look at the depth map {ref1}, then draw {caption} with the same arrangement.
My 3D program gave me {ref1} as depth. Please make {caption} of it.
From my depth camera I got {ref1}; show me {caption} instead of my room.
This is a depth scan: {ref1}. Turn it into {caption}.
This depth image, {ref1}, should become {caption}.
Transform {ref1}, a depth map, into {caption}.
Build {caption} on top of the depth map {ref1}.
Create {caption} by following the distances in {ref1}.
Generate a full-colour image of {caption} from the depth map {ref1}.
Generate the scene: {caption}. Depth reference: {ref1}.
Scene {caption}, depth {ref1}.
Depth reference {ref1}. Description: {caption}.
Description: {caption}. Depth map: {ref1}.
Two inputs: the depth map {ref1} and the caption "{caption}". Combine them in one image.
Match the caption "{caption}" and the depth map {ref1}.
The text says {caption}, and the depth map {ref1} says where.
Where things are: {ref1} (depth). What they are: {caption}.
Place everything in {caption} at the depth that {ref1} gives.
Put {caption} into the space described by {ref1}.
Would you draw {caption} into the space of {ref1}, please?
Is {caption} possible with the depth of {ref1}? Try it.
How would {caption} look with the depth of {ref1}?
I would like {caption} with exactly the depth in {ref1}.
I need {caption}, and its depth must agree with {ref1}.
Please respect {ref1} as the depth map. Content: {caption}.
Please use the depth in {ref1} as a guide for a picture of {caption}.
Guided by the depth in {ref1}, show me {caption}.
Guide: {ref1} (depth map). Goal: {caption}.
Starting from the depth map {ref1}, create a picture that shows {caption}.
Read the distances off {ref1} and draw {caption} with them.
Interpret {ref1} as depth and render {caption}.
Treat {ref1} as a z-buffer and shade it as {caption}.
Make the depth map {ref1} real: {caption}.
Give the depth map {ref1} colours and textures. It should show {caption}.
Textures and colours are yours to choose, the depth is {ref1}, the scene is {caption}.
Take {ref1}, in which depth is drawn in grey, and paint {caption} over it.
Paint {caption} over the depth map {ref1}.
Fit {caption} to the depth map {ref1}.
Let {caption} take up the space that {ref1} describes.
Same depth as {ref1}, but with {caption}.
Layout by depth map {ref1}: {caption}.
Illustrate {caption} with the sense of space that {ref1} has.
Depict {caption}. Depth is fixed by {ref1}.
"""

_MASK = """
{caption}, mask {ref1}
Use the mask in {ref1} to draw {caption}.
Generate {caption} so that the main object fills the mask {ref1}.
mask: {ref1}, caption: {caption}
caption: {caption}, mask: {ref1}
{caption} within the shape of {ref1}
Draw {caption}, with the object where {ref1} is white.
The white area in {ref1} tells you where the object goes. Draw {caption}.
{ref1} is a mask of the main object. Create {caption}.
Create an image of {caption} that follows the object mask {ref1}.
Given the mask {ref1}, generate {caption}.
Follow the silhouette in {ref1} and paint {caption}.
Fill the silhouette {ref1} to get {caption}.
Turn the silhouette in {ref1} into {caption}.
Can you make {caption} out of the silhouette in {ref1}?
Could you draw {caption} so that the outline of the object agrees with the mask {ref1}?
Please keep the shape in {ref1} and show me {caption}.
Based on the mask in {ref1}, produce {caption}.
With {ref1} as the mask, make a picture of {caption}.
The shape comes from {ref1}, the content is {caption}.
Shape: {ref1}. Content: {caption}.
I cut out a shape, {ref1}. Make it {caption}.
I have a segmentation mask, {ref1}, and I want {caption}.
I marked the place of the object in {ref1}. The picture should show {caption}.
Place the object of {caption} exactly inside the mask {ref1}.
Put the main thing where the mask {ref1} says. The picture shows {caption}.
{caption}. The object has the shape given in {ref1}.
{caption}. Take the position and the shape from the mask {ref1}.
{caption}, cut to the mask in {ref1}.
{caption}, with {ref1} as object mask.
Respect the mask {ref1} while you draw {caption}.
Let the mask in {ref1} decide where things are in a picture of {caption}.
Render {caption}. The foreground is marked in {ref1}.
The foreground is the white part of {ref1} and the rest is background. Paint {caption}.
Foreground mask {ref1}, scene {caption}.
Foreground from {ref1}, description: {caption}.
Mask to image: {ref1} becomes {caption}.
Convert the mask {ref1} into a picture of {caption}.
Transform the binary mask {ref1} into {caption}.
This black and white mask, {ref1}, should become {caption}.
What would {caption} look like if the object had the shape in {ref1}?
Which picture of {caption} has {ref1} as its mask? Draw that one.
If you cut the object out of the result, its mask should be {ref1}. The result shows {caption}.
Draw {caption} so that the mask of its object would be {ref1}.
Make {caption}; the object's region is {ref1}.
The region marked in {ref1} belongs to the object. Generate {caption}.
Look at the region in {ref1} and imagine {caption} with the object right there.
Referring to the mask {ref1}, illustrate {caption}.
By referring to the segmentation in {ref1}, generate an image of {caption}.
Conditioned on the mask {ref1}, synthesise {caption}.
An image of {caption} in which the object matches the mask {ref1}.
A picture of {caption}, where the object covers what {ref1} covers.
Keep the object inside {ref1}. The picture is of {caption}.
Keep within the lines of the mask {ref1} and draw {caption}.
Do not go beyond the mask {ref1} with the object. Scene: {caption}.
Do not show the mask {ref1} itself, use it to place the object. Draw {caption}.
Use {ref1} as a stencil and paint {caption}.
Lay the stencil {ref1} on the canvas and paint {caption} through it.
My stencil is {ref1}; my wish is {caption}.
Here is the shadow of the object, {ref1}. Now show the real picture, {caption}.
The silhouette {ref1} needs colour: {caption}.
Give the silhouette {ref1} a body and a background, so that we see {caption}.
Colour in the white part of {ref1}, add a background, and make it {caption}.
Invent everything except the shape, which is in {ref1}. Topic: {caption}.
You are free in colour and texture, but the shape must be {ref1}. Show {caption}.
Take the shape of {ref1} and give me {caption}.
Take {ref1} to place the object, then draw {caption}.
Start from the mask {ref1} and build {caption} around it.
Build a picture of {caption} around the masked object in {ref1}.
Complete the mask {ref1} into a full picture of {caption}.
Fit {caption} to the mask {ref1}.
Fit the object into {ref1}; the whole shows {caption}.
Match both the mask {ref1} and the caption "{caption}".
Two inputs, the mask {ref1} and the text "{caption}", one picture.
Where: {ref1} (mask). What: {caption}.
The mask {ref1} says where, and the words say what: {caption}.
Object region: {ref1}. Prompt: {caption}.
Prompt: {caption}. Region of the object: {ref1}.
Scene description {caption}, object mask {ref1}.
Use {ref1} as the layout for {caption}.
Use the outline of the blob in {ref1} for the object. Draw {caption}.
That blob in {ref1} is where the object sits. I want {caption}.
I would like {caption} with the object placed as in the mask {ref1}.
I need {caption}, and its object must fill the mask {ref1}.
I want to see {caption}, in the exact pose of the silhouette {ref1}.
Same silhouette as {ref1}, but a real picture: {caption}.
Same position and size as in the mask {ref1}: {caption}.
Position and size of the object are given by {ref1}. Depict {caption}.
Depict {caption}. The object's extent is fixed by the mask {ref1}.
Show {caption}, object as in the mask {ref1}.
Show me how {ref1}, which is only a mask, could turn out as {caption}.
Would you fill the mask {ref1} for me, so that it shows {caption}?
Is it possible to have {caption} in the shape of {ref1}?
How about {caption} with the shape in {ref1}?
Please generate {caption} with the object masked as in {ref1}.
Please respect the mask. It is in {ref1}, and the picture should be of {caption}.
Please paint {caption} and use the mask {ref1} for the main object.
Guided by the silhouette {ref1}, create {caption}.
Guide: {ref1} (object mask). Goal: {caption}.
Treat {ref1} as the cut-out of the object and create {caption}.
Let the object appear where {ref1} is bright, and let the picture show {caption}.
Bright means object in {ref1}, dark means background. The scene is {caption}.
"""

_EDGE = """
{caption}, edges {ref1}
Use the edge map in {ref1} to draw {caption}.
Follow the contours in {ref1} and paint {caption}.
Generate {caption} along the edges in {ref1}.
edge: {ref1}, caption: {caption}
caption: {caption}, edge: {ref1}
edges from {ref1}, picture of {caption}
Given the edge map {ref1}, generate {caption}.
Based on the edges in {ref1}, create {caption}.
{ref1} contains the edges. Draw {caption}.
{ref1} is an edge map of the picture I want, which shows {caption}.
The edges are given in {ref1}. Fill them in to get {caption}.
Fill in the outlines of {ref1} so that they become {caption}.
Colour in the contour drawing {ref1}. It shows {caption}.
Turn the edge map {ref1} into {caption}.
Turn these outlines, {ref1}, into a picture of {caption}.
Can you turn the contours of {ref1} into {caption}?
Could you draw {caption} so that its edges agree with {ref1}?
Please draw {caption} and keep every edge in {ref1}.
Please respect the lines in {ref1} when you paint {caption}.
Keep the outlines of {ref1} and show {caption}.
Stay on the lines of {ref1}. The picture is {caption}.
Stick to the edge map {ref1}; the content is {caption}.
The outlines come from {ref1} and the content from this caption: {caption}.
Outlines: {ref1}. Content: {caption}.
Contours {ref1}, scene {caption}.
Scene: {caption}. Contours: {ref1}.
Edge map {ref1}. Description: {caption}.
Description: {caption}. Edge reference: {ref1}.
With {ref1} as the edge map, make an image of {caption}.
Let the edges of {ref1} guide a picture of {caption}.
Guided by the outlines in {ref1}, create {caption}.
Guide: {ref1} (edges). Goal: {caption}.
Render {caption} with the edges found in {ref1}.
Produce {caption}. All edges are in {ref1}.
Draw {caption} so that an edge detector would find {ref1}.
If someone ran an edge detector on the result, {ref1} should come out. The result shows {caption}.
Which picture of {caption} has {ref1} as its edges? Generate it.
What does {ref1} look like when the lines become {caption}?
How would {caption} look with the contours of {ref1}?
{caption}. The lines to follow are in {ref1}.
{caption}. Take the outlines from {ref1}.
{caption}, traced from {ref1}.
{caption}, with contours as in {ref1}.
{caption} drawn over the edges of {ref1}
Edge to image: {ref1} becomes {caption}.
Convert the edge image {ref1} to a picture of {caption}.
Transform the line map {ref1} into {caption}.
This edge image, {ref1}, should become {caption}.
These lines, {ref1}, are all I have left of a picture of {caption}. Restore it.
I only kept the edges of my picture in {ref1}. It showed {caption}. Please bring it back.
I extracted the edges, see {ref1}. Make {caption} from them.
I have an edge map, {ref1}, and would like {caption}.
I want {caption} with exactly the contours in {ref1}.
I need {caption}, and the edges have to match {ref1}.
I would like to see the contours {ref1} as {caption}.
Match the edges in {ref1} and the caption "{caption}".
Two inputs, the edge map {ref1} and the text "{caption}", should give one picture.
The words say what to draw, {caption}, and the edges {ref1} say where.
Where the lines run: {ref1}. What they show: {caption}.
Referring to the edge map {ref1}, illustrate {caption}.
By referring to the edges in {ref1}, generate an image of {caption}.
Conditioned on the edges {ref1}, synthesise {caption}.
An image of {caption} whose edges follow {ref1}.
A picture of {caption} that has the contours of {ref1}.
Preserve the structure in {ref1} and generate {caption}.
Preserve each contour of {ref1}; add colour and light until it is {caption}.
Add colour, light and texture to the edges {ref1} to obtain {caption}.
Colours are up to you, edges are not: {ref1}. Draw {caption}.
You choose the colours, I give the contours in {ref1}. It should be {caption}.
Do not move the edges in {ref1}. Paint {caption}.
Do not draw the lines of {ref1} themselves, draw what they enclose. Scene: {caption}.
Trace {ref1} and make a full picture of it, namely {caption}.
Trace the contours of {ref1}, then paint {caption}.
Complete the outlines {ref1} into {caption}.
Start from the edge map {ref1} and end with {caption}.
Start with the lines in {ref1} and build {caption} on them.
Build {caption} on the contours in {ref1}.
Use {ref1} as a colouring page. When you are done it should show {caption}.
Like a colouring book: the page is {ref1}, the finished picture shows {caption}.
Paint between the lines of {ref1} so that we see {caption}.
Put colour between the edges in {ref1}: {caption}.
Take the edges of {ref1} and give me {caption}.
Take the composition from the contour drawing {ref1} and show {caption}.
The composition is fixed by the edge map {ref1}, and the picture shows {caption}.
Depict {caption}. Its contours are fixed by {ref1}.
Show {caption}, contour by contour as in {ref1}.
Show me {caption}, based on the boundaries drawn in {ref1}.
The boundaries between things are drawn in {ref1}. Paint {caption}.
Boundary map: {ref1}. Prompt: {caption}.
Prompt: {caption}. Boundaries as in {ref1}.
Look at the outlines in {ref1} and imagine {caption}, then draw it.
Treat {ref1} as the outline of your picture, which is to show {caption}.
Read {ref1} as outlines and fill them with {caption}.
Make the wireframe in {ref1} a real picture: {caption}.
Make {caption}; for the contours use {ref1}.
Would you please finish {ref1}, which has only edges, as {caption}?
Is it possible to get {caption} from the edges in {ref1}?
Let the lines in {ref1} come alive as {caption}.
Same contours as {ref1}, full colour, {caption}.
Generate a full-colour picture of {caption} from the line drawing {ref1}.
Fit {caption} to the edge map {ref1}.
"""

_SKETCH = """
{caption}, after the sketch {ref1}
Use the sketch in {ref1} to draw {caption}.
Turn the sketch {ref1} into {caption}.
Finish my sketch {ref1} so that it shows {caption}.
sketch: {ref1}, caption: {caption}
caption: {caption}, sketch: {ref1}
sketch {ref1}, {caption}
Given the sketch {ref1}, generate {caption}.
Based on the rough drawing in {ref1}, create {caption}.
{ref1} is a quick sketch. Make it a real picture of {caption}.
{ref1} is what I scribbled. What I meant is {caption}.
I scribbled {ref1}. Please make {caption} of it.
I drew {ref1} by hand. Could you turn it into {caption}?
My drawing skills end at {ref1}. I was going for {caption}.
My son drew {ref1}. Show him {caption} in the same arrangement.
Here is my draft, {ref1}. The finished picture should show {caption}.
Take my pencil sketch {ref1} and paint {caption}.
Colour my sketch {ref1}: {caption}.
Follow the sketch {ref1} and generate {caption}.
Keep the composition of the sketch {ref1} and show {caption}.
Please draw {caption} the way I laid it out in {ref1}.
Please finish the drawing in {ref1}. It is meant to be {caption}.
Can you make {caption} from this doodle, {ref1}?
Could you clean up the doodle {ref1} and paint {caption}?
What would my doodle {ref1} look like as {caption}?
How would the sketch in {ref1} look when finished as {caption}?
Draw {caption} according to the sketch in {ref1}.
Generate {caption} with the layout sketched in {ref1}.
Render {caption} from the hand-drawn lines in {ref1}.
Produce {caption}; the draft is {ref1}.
Create an image of {caption} that follows the sketch {ref1}.
With {ref1} as a rough sketch, make an image of {caption}.
Let the sketch {ref1} guide a finished picture of {caption}.
Guided by the sketch in {ref1}, paint {caption}.
Guide: {ref1} (sketch). Goal: {caption}.
{caption}. I sketched it in {ref1}.
{caption}. For the layout, see my sketch {ref1}.
{caption}, as roughed out in {ref1}.
{caption}, based on the doodle {ref1}.
{caption} from the sketch {ref1}
Sketch to image: {ref1} becomes {caption}.
Convert the sketch {ref1} to a picture of {caption}.
Transform the hand drawing {ref1} into {caption}.
This sketch, {ref1}, should become {caption}.
Make this scribble, {ref1}, into {caption}.
The lines in {ref1} are rough, the result need not be. It shows {caption}.
The strokes in {ref1} are shaky, so read them kindly. They mean {caption}.
Do not trace the wobbly lines of {ref1} exactly, but place everything as there. Draw {caption}.
Do not leave it a sketch. Work {ref1} out as {caption}.
Work out the sketch {ref1} in full colour: {caption}.
Work the draft {ref1} up into {caption}.
I have a sketch, {ref1}, and would like {caption}.
I want {caption}, arranged like my sketch {ref1}.
I need {caption}, and the sketch {ref1} shows how.
I would like to see my sketch {ref1} as {caption}.
On a napkin I drew {ref1}. Imagine it as {caption} and paint that.
From the whiteboard: {ref1}. Please turn it into {caption}.
An artist left the unfinished sketch {ref1}. Complete it as {caption}.
As an illustrator, take the client's scribble {ref1} and deliver {caption}.
The client sent the scribble {ref1} and asked for {caption}.
Sketch: {ref1}. Finished picture: {caption}.
Draft {ref1}, final {caption}.
Rough version: {ref1}. Description of the final version: {caption}.
Description: {caption}. Sketch: {ref1}.
Prompt: {caption}. Drawn roughly in {ref1}.
Referring to the sketch {ref1}, illustrate {caption}.
By referring to the drawing in {ref1}, generate an image of {caption}.
Conditioned on the sketch {ref1}, synthesise {caption}.
An image of {caption} whose composition follows the sketch {ref1}.
A finished version of the sketch {ref1}, showing {caption}.
A picture of {caption}, composed like the rough drawing {ref1}.
Match the sketch in {ref1} and the caption "{caption}".
Two inputs: a sketch, {ref1}, and a caption, "{caption}". Make one picture.
The sketch {ref1} tells you where things go, the text tells you what they are: {caption}.
Where: see the sketch {ref1}. What: {caption}.
Start from the rough lines of {ref1} and end with {caption}.
Build {caption} on the sketch {ref1}.
Paint over the sketch {ref1} until it shows {caption}.
Use {ref1} as an underdrawing for {caption}.
Underdrawing: {ref1}. Painting: {caption}.
Ink and colour {ref1} to get {caption}.
Add colour, light and detail to the sketch {ref1}, so that we see {caption}.
Give the sketch {ref1} life as {caption}.
Bring my drawing {ref1} to life: {caption}.
Let my scribble in {ref1} grow into {caption}.
Take the idea from the scribble {ref1} and show me {caption}.
Take {ref1} as a first draft of {caption} and make the final one.
Look at the sketch {ref1}, guess what I meant by {caption}, and draw it well.
Can you read my sketch? It is {ref1} and should show {caption}.
Would you please turn {ref1}, a sketch of mine, into {caption}?
Is it possible to get {caption} from a sketch like {ref1}?
Depict {caption}. The composition is sketched in {ref1}.
Show {caption} the way it is sketched in {ref1}.
Show me a polished version of {ref1} with {caption}.
Polish the sketch {ref1} into {caption}.
Improve on my drawing {ref1}; the topic is {caption}.
Read {ref1} as a sketch and render {caption}.
Treat {ref1} as a storyboard frame and produce the shot: {caption}.
Storyboard {ref1}, shot description: {caption}.
Same layout as the sketch {ref1}, but finished: {caption}.
Fit {caption} to the sketch {ref1}.
Generate {caption} out of a few pencil strokes, which are in {ref1}.
"""

_SUBJECT = """
{caption}, with the {subject} from {ref1}
Draw {caption}, using the {subject} in {ref1}.
Generate {caption} with the {subject} shown in {ref1}.
Create an image of {caption}. The {subject} must be the same as in {ref1}.
{subject}: {ref1}, caption: {caption}
{subject} {ref1} in a new picture, {caption}
{ref1} shows the {subject}. Draw {caption}.
{ref1} is a photo of the {subject}. Now I want to see {caption}.
Take the {subject} from {ref1} and show {caption}.
Put the {subject} from {ref1} into a new scene: {caption}.
Place the {subject} of {ref1} in this scene: {caption}.
Use the {subject} in {ref1} for a picture of {caption}.
Make a picture of {caption}, starring the {subject} from {ref1}.
The {subject} you see in {ref1} should appear in the following picture: {caption}.
The {subject} from {ref1} should look the same in the result, which shows {caption}.
Keep the {subject} of {ref1} as it is and draw {caption}.
Keep the identity of the {subject} in {ref1}. The new image shows {caption}.
Preserve the look of the {subject} in {ref1} while you paint {caption}.
Remember the {subject} in {ref1}? Draw {caption}.
Look closely at the {subject} in {ref1}, then draw {caption}.
Please draw {caption}, and let it be the {subject} from {ref1}.
Please use my {subject}, shown in {ref1}, for {caption}.
Please show my {subject} {ref1} in another situation: {caption}.
Could you draw {caption} with my {subject}? See {ref1}.
Could you put the {subject} seen in {ref1} into a picture of {caption}?
Can you create {caption} with exactly the {subject} from {ref1}?
Can the {subject} in {ref1} be part of {caption}? Show me.
What would {caption} look like with the {subject} from {ref1}?
How would the {subject} of {ref1} look in this scene: {caption}?
I took a photo of my {subject}, {ref1}. Now make {caption}.
I love the {subject} in {ref1}. Please give me {caption}.
My wish for today: {caption}. The looks of the {subject} come from {ref1}.
I want {caption}, but with no other {subject} than in {ref1}.
I want the {subject} from {ref1} and this scene: {caption}.
I need {caption}, and the {subject} must come from the picture {ref1}.
I would like to see {caption}, and please let me find the {subject} from {ref1} there.
I am making a story about the {subject} in {ref1}. On this page we see {caption}.
The next page of my book shows {caption}. As always, use the {subject} from {ref1}.
For an advertisement with the {subject} from {ref1}, create {caption}.
We sell the {subject} in {ref1}. Produce an image of {caption}.
{caption}. You will find the {subject} in {ref1}.
{caption}. Use the {subject} from {ref1}.
{caption}. For the {subject}, look at {ref1}.
{caption}, and the {subject} should be recognisable from {ref1}
{caption}, featuring the {subject} of {ref1}.
{caption} (for the {subject} see {ref1})
{caption}: do this with the {subject} that {ref1} shows.
Subject: {subject} {ref1}. Scene: {caption}.
Scene: {caption}. Subject: the {subject} in {ref1}.
Reference {ref1}, subject {subject}, prompt "{caption}".
Prompt: {caption}. Reference for the {subject}: {ref1}.
Given the {subject} in {ref1}, generate {caption}.
Given a picture of the {subject}, {ref1}, imagine {caption}.
Based on the {subject} in {ref1}, create {caption}.
With the {subject} of {ref1} as the main character, draw {caption}.
The leading part goes to the {subject} in {ref1} and the story goes: {caption}.
Make the {subject} from {ref1} the hero of this picture. We see {caption}.
Let the {subject} from {ref1} appear in {caption}.
Let us move the {subject} of {ref1} elsewhere: {caption}.
Change the surroundings of the {subject} in {ref1}. The new picture: {caption}.
Forget the background of {ref1} but keep the {subject}. Show {caption}.
Ignore everything in {ref1} except the {subject}, then paint {caption}.
Cut the {subject} out of {ref1} in your mind and paste the result into {caption}.
Same {subject} as in {ref1}, new scene: {caption}.
The same {subject} as in {ref1}, this time {caption}.
A new picture of the {subject} in {ref1}: {caption}.
Another view of the {subject} known from {ref1}. It should show {caption}.
An image of {caption} that contains the {subject} from {ref1}.
A picture of {caption} in which everybody recognises the {subject} of {ref1}.
Anyone who knows the {subject} in {ref1} should see the likeness in your picture of {caption}.
Render {caption} with the specific {subject} in {ref1}.
Produce {caption}. Appearance of the {subject}: {ref1}.
Depict {caption}. The {subject} must match {ref1}.
Illustrate {caption} with the {subject} from {ref1}.
Compose {caption} around the {subject} that you find in {ref1}.
Build {caption} around the {subject} in {ref1}.
Imagine the {subject} from {ref1} in this situation and draw it: {caption}.
Invent a scene for the {subject} of {ref1}. My suggestion: {caption}.
Referring to the {subject} in {ref1}, generate {caption}.
By referring to {ref1} for the {subject}, make an image of {caption}.
Conditioned on the {subject} {ref1}, synthesise {caption}.
Personalise this caption with the {subject} from {ref1}: {caption}.
Learn what the {subject} in {ref1} looks like and use it for {caption}.
Study {ref1}. It tells you how the {subject} should look in {caption}.
See {ref1} for the {subject}. The picture I want shows {caption}.
Who or what: the {subject} in {ref1}. In which picture: {caption}.
The text is "{caption}" and {ref1} has the {subject}.
Combine the {subject} in {ref1} with this description: {caption}.
Two inputs, the {subject} {ref1} and the caption "{caption}", make one image.
Do not replace the {subject} in {ref1} by something similar. Draw {caption}.
No lookalikes, please: only the {subject} of {ref1} will do for {caption}.
It matters to me that the {subject} should stay true to {ref1}. Apart from that, draw {caption}.
Stay true to the {subject} in {ref1} and generate {caption}.
Would you please draw {caption} using the {subject} of {ref1}?
Is it possible to see the {subject} from {ref1} like this: {caption}?
Show me the {subject} in {ref1} again, now as {caption}.
Show {caption}. You know the {subject} from {ref1}.
Give me {caption} with the very {subject} of {ref1}.
Transport the {subject} in {ref1} to a different picture, namely {caption}.
Send the {subject} from {ref1} on a journey. This is where we meet again: {caption}.
Add the {subject} from {ref1} to {caption}.
"""

_STYLE = """
{caption}, style of {ref1}
Draw {caption} in the style of {ref1}.
Generate {caption} in the same style as {ref1}.
Use the style of {ref1} for a picture of {caption}.
style: {ref1}, caption: {caption}
caption: {caption}, style: {ref1}
style {ref1}, {caption}
{ref1} shows the style. Draw {caption}.
{ref1} is the style I like. Make {caption} in that manner.
Paint {caption} the way {ref1} is painted.
Create an image of {caption} that looks as if the artist of {ref1} had made it.
Imagine the artist of {ref1} had drawn {caption}. Show me the result.
Take the style from {ref1} and the content from this text: {caption}.
The style comes from {ref1}, the content is {caption}.
Follow the style of {ref1} and show {caption}.
Borrow the look of {ref1} and create {caption}.
Copy the technique in {ref1}, not the motif. The motif is {caption}.
Do not copy what {ref1} shows, only how it is done. Draw {caption}.
Ignore the objects in {ref1}. Keep the style and draw {caption}.
Look at how {ref1} was made and make {caption} likewise.
Look at the strokes and the colours of {ref1}. Use them for {caption}.
Study the technique of {ref1}, then draw {caption}.
Please draw {caption} in the style of the picture {ref1}.
Please match the style in {ref1}. I want to see {caption}.
Please paint {caption}, and let it hang next to {ref1} without standing out.
Can you draw {caption} so that it looks like {ref1} in style?
Could you do {caption} in this style, {ref1}?
Could {caption} be drawn in the manner of {ref1}?
What would {caption} look like in the style of {ref1}?
How would the painter of {ref1} show {caption}?
I like the style of {ref1}. Please give me {caption}.
I have a picture, {ref1}, and I would like {caption} to go with it in the same style.
I need {caption}, in keeping with the style of {ref1}.
I want {caption} with the look and feel of {ref1}.
I want a companion piece to {ref1} that shows {caption}.
Make a companion piece for {ref1}. Motif: {caption}.
Make {caption} match {ref1} in style.
Make it look like {ref1} and let it show {caption}.
{caption}. Same style as {ref1}.
{caption}. Use {ref1} as the style reference.
{caption}. The style should be that of {ref1}.
{caption}, rendered like {ref1}.
{caption}, with the colours and the brushwork of {ref1}.
{caption}, drawn by the hand that drew {ref1}
{caption} (style as in {ref1})
Style reference: {ref1}. Prompt: {caption}.
Prompt: {caption}. Style reference: {ref1}.
Style image {ref1}. Content: {caption}.
Content: {caption}. Look: {ref1}.
Given the style image {ref1}, generate {caption}.
Based on the style of {ref1}, illustrate {caption}.
With {ref1} as a style guide, draw {caption}.
Guided by the style of {ref1}, paint {caption}.
Our style guide is {ref1}. The illustration we need shows {caption}.
In the visual language of {ref1}, express {caption}.
In the same manner as {ref1}, depict {caption}.
As in {ref1}, so in your picture, but with {caption}.
Render {caption} with the texture and the palette of {ref1}.
Produce {caption}; take palette, texture and line from {ref1}.
Apply the style of {ref1} to {caption}.
Transfer the look of {ref1} to a new picture of {caption}.
Let {ref1} decide the style and this text the content: {caption}.
Let {caption} appear in the style that {ref1} has.
Referring to {ref1} for style, generate {caption}.
By referring to the style in {ref1}, generate an image of {caption}.
Conditioned on the style {ref1}, synthesise {caption}.
A picture of {caption} in the style of {ref1}.
An image of {caption} that shares its style with {ref1}.
An illustration of {caption} that could come from the same book as {ref1}.
The book that contains {ref1} has another page, which shows {caption}. Draw that page.
Continue the series that {ref1} belongs to. The next picture shows {caption}.
Another one like {ref1}, please, but with {caption}.
One more in this series: {ref1} was the first, now do {caption}.
Think of {ref1} as the first picture of a set. The second one shows {caption}.
Here is an example of the style, {ref1}. Now apply it and draw {caption}.
Example of the style: {ref1}. Your turn: {caption}.
My wall already has {ref1}. Give me {caption} to match.
My app uses drawings like {ref1}. I need one of {caption}.
We want all icons to look like {ref1}. Create the one for {caption}.
If {ref1} had shown {caption}, what would it have looked like?
Different content, same style. Style: {ref1}, content: {caption}.
Keep the style of {ref1} but change the content to {caption}.
Exchange the motif of {ref1} for {caption} without touching the style.
Show {caption} through the eyes of whoever made {ref1}.
Show me {caption}, and imitate {ref1} in style.
Imitate {ref1} when you draw {caption}.
Imitate the manner of {ref1}; the motif is {caption}.
Use {ref1} as inspiration for the style of {caption}.
Inspired by the style of {ref1}, create {caption}.
Depict {caption} with the same materials as {ref1}.
Compose {caption}, and finish it in the style of {ref1}.
Illustrate {caption}. The style is set by {ref1}.
Would you please paint {caption} in the way of {ref1}?
Is it possible to have {caption} in the style shown in {ref1}?
Give me {caption} with the same aesthetics as {ref1}.
Stylise {caption} after {ref1}.
Text plus style: "{caption}" plus {ref1}.
Two inputs, a style picture {ref1} and the words "{caption}". Unite them.
The words tell you what to draw, {caption}, and {ref1} tells you how.
What: {caption}. How: like {ref1}.
How to draw it: see {ref1}. What to draw: {caption}.
See {ref1} for the style of the picture. It shows {caption}.
"""

_STYLE_TRANSFER = """
{ref2} in the style of {ref1}
Draw {ref2} in the style of {ref1}.
Apply the style of {ref1} to {ref2}.
Transfer the style of {ref1} to the content of {ref2}.
Take the style from {ref1} and the content from {ref2}.
Take the content from {ref2} and the style from {ref1}.
style: {ref1}, content: {ref2}
content: {ref2}, style: {ref1}
Content {ref2}, drawn with the style of {ref1}.
Style reference {ref1}. Picture to restyle: {ref2}.
Redraw {ref2} so that it looks like {ref1} in style.
Repaint {ref2} in the manner of {ref1}.
Repaint what you see in {ref2} with the brush of {ref1}.
Restyle {ref2} after {ref1}.
Render the scene in {ref2} with the look of {ref1}.
Convert {ref2} to the style of {ref1}.
Turn {ref2} into a picture like {ref1}, without changing what it shows.
Make {ref2} look like {ref1}.
Make {ref2} look as if the artist of {ref1} had painted it.
Imagine the artist of {ref1} had painted {ref2}. Show me that picture.
Use {ref1} as the style and {ref2} as the content.
Use {ref2} as the content and {ref1} as the style.
Use the technique of {ref1} on {ref2}.
Give {ref2} the style of {ref1}.
Give {ref2} the colours and the strokes of {ref1}.
Give me {ref2}, but done like {ref1}.
Show {ref2} in the same style as {ref1}.
Show me {ref2} the way {ref1} is painted.
Please redo {ref2} in the style of {ref1}.
Please transfer the look of {ref1} onto {ref2}.
Please keep everything that is in {ref2} and change only its style to that of {ref1}.
Please stylise my photo {ref2} with {ref1}.
Could you paint {ref2} like {ref1}?
Could you restyle my picture, {ref2}? I want it to match {ref1}.
Can you take the look of {ref1} and put it on {ref2}?
Can you copy the style in {ref1} and use it for what {ref2} shows?
What would {ref2} look like in the style of {ref1}?
How would {ref2} look if it had been made like {ref1}?
How would the painter of {ref1} have shown the scene in {ref2}?
I like the style of {ref1}. Change {ref2} accordingly.
I like what {ref2} shows and how {ref1} is drawn. Combine both.
I want {ref2} with the style of {ref1}.
I want to hang {ref2} next to {ref1}. Make them match in style.
I need {ref2} redrawn. The style should follow {ref1}.
I would like my photo, {ref2}, to become an artwork like {ref1}.
I have two pictures. Draw what is in {ref2} the way {ref1} is drawn.
Two pictures: {ref1} for the style, {ref2} for the content. Make one out of them.
One picture gives the style, {ref1}, and one the content, {ref2}.
The style is in {ref1} and the content is in {ref2}.
The content is in {ref2} and the style is in {ref1}.
{ref1} is the style, {ref2} is the content.
{ref2} is the content; for the style look at {ref1}.
{ref1} shows how to draw, {ref2} shows what to draw.
{ref2} shows what to draw and {ref1} shows how to draw it.
{ref2}, but in the style of {ref1}.
{ref2}, repainted like {ref1}
{ref2} with the look and feel of {ref1}
{ref2} as if it were {ref1}'s twin in style
What to draw: {ref2}. How to draw it: {ref1}.
How: like {ref1}. What: the scene of {ref2}.
Keep the content of {ref2} and replace its style by that of {ref1}.
Keep the layout of {ref2} but use the palette and the texture of {ref1}.
Leave the composition of {ref2} as it is. The rendering should follow {ref1}.
Preserve the objects in {ref2} while you apply the style of {ref1}.
Preserve the structure of {ref2}; adopt the appearance of {ref1}.
Do not change what {ref2} shows. Only draw it like {ref1}.
Do not take any object from {ref1}, just the style, and apply it to {ref2}.
Ignore what {ref1} shows and use its style to redraw {ref2}.
Nothing of the motif of {ref1} should remain, only its style, and all of {ref2}.
Given the style image {ref1} and the content image {ref2}, generate the stylised image.
Given the content image {ref2}, produce a version of it in the style of {ref1}.
Based on {ref2}, create a picture with the style of {ref1}.
With {ref1} as the style reference, transform {ref2}.
With the style of {ref1} in mind, draw {ref2} again.
Transform {ref2} with the style of {ref1}.
Translate {ref2} into the visual language of {ref1}.
Let {ref1} lend its style to {ref2}.
Let {ref2} borrow the style of {ref1}.
Let the scene in {ref2} appear in the style of {ref1}.
Lend {ref2} the appearance of {ref1}.
Copy the scene of {ref2} in the manner of {ref1}.
Copy {ref2} by hand, but with the technique of {ref1}.
Combine the style of {ref1} with the content of {ref2}.
Merge the motif of {ref2} with the style of {ref1}.
Blend them: how {ref1} looks, what {ref2} shows.
Style transfer from {ref1} to {ref2}.
Style transfer, target {ref2}, source of the style {ref1}.
Neural style transfer: paint {ref2} with {ref1}.
Referring to {ref1} for the style, redraw {ref2}.
By referring to the style of {ref1}, generate a new version of {ref2}.
Conditioned on the style {ref1} and the content {ref2}, synthesise an image.
A version of {ref2} in the style of {ref1}.
A picture that shows the same things as {ref2} and looks like {ref1}.
An image with the content of {ref2} and the style of {ref1}.
The same scene as in {ref2}, the same style as in {ref1}.
Same style as {ref1}, same content as {ref2}.
Whatever you see in {ref2}, draw it in the style of {ref1}.
Look at {ref1} and learn its style, then redraw {ref2}.
Study how {ref1} was made and make {ref2} that way.
Stylise {ref2}. The style picture is {ref1}.
Would you please repaint {ref2} in the way of {ref1}?
Is there a version of {ref2} that could hang in one room with {ref1}? Paint it.
If {ref1} and {ref2} were by the same hand, how would {ref2} look?
Pretend that {ref2} was drawn by whoever drew {ref1}.
See {ref1} for the style. Redo {ref2}.
Filter {ref2} so that it takes on the style of {ref1}.
Dress {ref2} in the style of {ref1}.
"""

_FACE = """
{caption}, with the face from {ref1}
{caption}. The face is the one in {ref1}.
{caption}. You know this face from {ref1}.
{caption}: same person as in {ref1}
{caption}, and it has to be the person in {ref1}.
{caption}, looking like {ref1}
{caption} (for the face see {ref1})
{ref1} shows who it is. Draw {caption}.
{ref1} is the person. I want {caption}.
{ref1} in a new picture, {caption}
{ref1} is a photo of my friend. Please make {caption}.
Draw {caption}. Take the face from {ref1}.
Draw the person of {ref1} once more: {caption}.
Please draw {caption}, and keep the face of {ref1}.
Generate {caption} with the same person as in {ref1}.
Generate a new portrait of the person in {ref1}. It shows {caption}.
Create {caption}. Everybody should recognise the person from {ref1}.
Create a second picture of whoever is in {ref1}: {caption}.
Make {caption}, but it must be the one seen in {ref1}.
Make another portrait of the person {ref1}. Now we see {caption}.
Show me {caption}, starring the person in {ref1}.
Show the person from {ref1} in another mood and place: {caption}.
Paint {caption} after the person in {ref1}.
Render {caption} so that the identity of {ref1} is kept.
Depict {caption}, with the features of the person in {ref1}.
Picture the person in {ref1} like this: {caption}.
Imagine the person of {ref1} somewhere else. We see {caption}.
Keep the identity of {ref1}, change the rest to {caption}.
Keep eyes, nose and hair as in {ref1} and draw {caption}.
Preserve the face in {ref1} while you make {caption}.
Do not change who it is: {ref1}. The new picture is {caption}.
Same face as {ref1}, other picture: {caption}.
Same person, other day. Reference {ref1}, wanted: {caption}.
Identity: {ref1}. Scene: {caption}.
Person {ref1}, prompt "{caption}".
Face reference {ref1}; caption {caption}
person: {ref1}, caption: {caption}
caption: {caption}, face: {ref1}
Given the face in {ref1}, generate {caption}.
Given a photo {ref1} of somebody, produce {caption}.
Using {ref1} as the model, draw {caption}.
Using the face shown in {ref1}, compose {caption}.
With {ref1} as the sitter, paint {caption}.
With the looks of the person in {ref1}, show {caption}.
Based on the portrait {ref1}, create {caption}.
Based on who you see in {ref1}, imagine {caption}.
Take a look at {ref1}. Now draw the same person as {caption}.
Take the person of {ref1} and turn the scene into {caption}.
Look at the face in {ref1}, remember it, and draw {caption}.
Remember the person in {ref1}? I need {caption}.
Recognise the person in {ref1} and put them into this scene: {caption}.
Put the person from {ref1} here: {caption}.
Place the face of {ref1} in this picture: {caption}.
Let the person in {ref1} pose again. This time, {caption}.
Let me see {caption}, played by the person in {ref1}.
Let us photograph the person in {ref1} again: {caption}.
Could you draw {caption} with the face of {ref1}?
Could you show the person in {ref1} again, as {caption}?
Can you make {caption} look like {ref1}?
Can I have {caption}, and can it be the person from {ref1}?
Would you paint {caption} so that it resembles {ref1}?
What would {caption} look like if it were the person in {ref1}?
How would the person in {ref1} look as {caption}?
Who is in {ref1}? Draw that person as {caption}.
I know the person in {ref1}. Please show me {caption}.
I took a photo of my sister, {ref1}. Now I want {caption}.
I would like {caption}. The person to show is in {ref1}.
I want a picture of the person in {ref1}. It should be {caption}.
I need {caption} for a profile, and my face is in {ref1}.
I lost all photos but {ref1}. Make a new one: {caption}.
We need {caption} with the actor from {ref1}.
We cast the person in {ref1} for this shot: {caption}.
My uncle is in {ref1}. Please draw {caption} with him or her.
My photo is {ref1}. Turn me into {caption}.
Here is a face: {ref1}. Here is a caption: {caption}. Draw it.
Here you see somebody, {ref1}. Show the same one in {caption}.
This is the person, {ref1}, and this is the scene: {caption}.
That face in {ref1} belongs into {caption}.
The person in {ref1} should appear in the following picture: {caption}.
The face must match {ref1}. The picture shows {caption}.
The one in {ref1} again, now {caption}.
The new portrait shows {caption}; the identity comes from {ref1}.
The story goes on with the person from {ref1}: {caption}.
For a photo album of the person in {ref1}, make {caption}.
For the next page of the comic with the hero of {ref1}, draw {caption}.
Another portrait of the person in {ref1}, please: {caption}.
One more picture of {ref1}: {caption}.
New scene for the person in {ref1}: {caption}
Different place, same face {ref1}: {caption}
Give the person of {ref1} a new picture, {caption}.
Give me {caption}, as if the person in {ref1} had been there.
Produce {caption}. Stay true to the face in {ref1}.
Stay close to the features in {ref1} and depict {caption}.
Copy the identity, not the photo: from {ref1} make {caption}.
Change the expression and the surroundings of {ref1} to get {caption}.
Transfer the person in {ref1} to a new scene, {caption}.
Move the person of {ref1} into {caption}.
Illustrate {caption}, and use the person in {ref1} as the main character.
Whatever else changes, it must be the person in {ref1}: {caption}.
If the person in {ref1} had been photographed again, we might see {caption}.
Subject: the person in {ref1}. Picture: {caption}.
Portrait request, face {ref1}, description {caption}.
Personalise this picture with the face in {ref1}: {caption}.
As in {ref1}, but {caption}
"""

_FACE_HQ = """
{caption}, a studio portrait of the person in {ref1}
{caption}. Close-up, same sitter as {ref1}.
{caption}. The sitter is known from the close-up {ref1}.
{caption}: a close portrait, identity from {ref1}
{caption}, head and shoulders, face as in {ref1}
{caption} as a portrait of whoever sits in {ref1}.
{caption} (close-up of the person {ref1})
{ref1} is a close-up. Make another one that shows {caption}.
{ref1} shows a face in detail. Draw it again as {caption}.
{ref1} was the first shot of the session. The next one is {caption}.
{ref1}, second take: {caption}
Draw a close portrait of the face in {ref1}, namely {caption}.
Draw {caption} large and from the front, with the face of {ref1}.
Please take another studio picture of the person in {ref1}: {caption}.
Please redo the portrait {ref1} as {caption}.
Generate a close-up of the person in {ref1}, {caption}.
Generate {caption}, a frontal view of the face in {ref1}.
Create a high quality portrait of the person {ref1}. It shows {caption}.
Create {caption} with all the details of the face in {ref1}.
Make a new studio shot of {ref1}: {caption}.
Make {caption}, close enough to recognise the face from {ref1}.
Show the face of {ref1} from close by, {caption}.
Show me a portrait of the sitter in {ref1}. I imagine {caption}.
Paint the sitter of {ref1} again, large, {caption}.
Paint {caption} as a head-and-shoulders portrait of the person in {ref1}.
Render a detailed portrait, {caption}, with the identity of {ref1}.
Photograph the person in {ref1} again before a simple background: {caption}.
Shoot {caption} in the studio where {ref1} was taken, with the same sitter.
Keep every detail of the face in {ref1}. The portrait now shows {caption}.
Keep the sitter of {ref1}, change mood and clothes: {caption}.
Preserve skin, hair and eyes of {ref1} in this portrait of {caption}.
Retake {ref1} as {caption}.
Repeat the portrait {ref1}, but now {caption}.
Same sitter as {ref1}, new portrait: {caption}.
Same face, same distance. From {ref1} to {caption}.
Sitter {ref1}, description "{caption}".
Close-up reference {ref1}; wanted {caption}
sitter: {ref1}, portrait: {caption}
portrait: {caption}, sitter: {ref1}
Given the close-up {ref1}, generate {caption} in the same studio.
Given this detailed face, {ref1}, make {caption}.
Using the close-up in {ref1} for the features, draw {caption}.
Using one portrait, {ref1}, produce another: {caption}.
With the sitter from {ref1} in front of the camera, make {caption}.
With the face of {ref1} filling the frame, show {caption}.
Based on the studio picture {ref1}, create {caption}.
Based on one close-up, {ref1}, draw the next, {caption}.
Take the features in {ref1} and make a portrait that shows {caption}.
Take a second picture of the person {ref1}. What I want is {caption}.
Look closely at the face in {ref1}, then make a portrait of it: {caption}.
Study the close-up {ref1}. Draw {caption}.
Remember each feature of {ref1} and paint {caption}.
Fill the frame with the person of {ref1}: {caption}.
Zoom in on the person of {ref1} and show {caption}.
Let the sitter of {ref1} try another expression. We see {caption}.
Let the camera see {caption}, with the sitter from {ref1}.
Could you make a close-up of the person in {ref1}, {caption}?
Could I get the sitter of {ref1} once more, as {caption}?
Can you repeat the studio portrait {ref1} with {caption}?
Can the face in {ref1} be shown as {caption}?
Would you take another portrait of {ref1}, this time {caption}?
What does the face in {ref1} look like as {caption}?
How does the sitter in {ref1} look as {caption}?
May I see {caption} as a portrait of the person in {ref1}?
I have one good portrait, {ref1}. I also need {caption}.
I am a photographer and {ref1} is my client. The next shot is {caption}.
I would like a studio portrait of the person in {ref1}, {caption}.
I want the face of {ref1} close up: {caption}.
I need a passport picture of the person {ref1}. Show {caption}.
We liked {ref1} and order another portrait: {caption}.
We need the person in {ref1} as {caption}, head and shoulders only.
My portrait is {ref1}. Make a new one in which I am {caption}.
My boss wants {caption}, and {ref1} is the only picture of the face.
Here is a portrait, {ref1}. The new portrait should be {caption}.
Here comes the sitter, {ref1}. Please take {caption}.
This face, {ref1}, in a studio: {caption}.
This is the sitter, {ref1}, and this is the order: {caption}.
The portrait {ref1} again, with one difference, {caption}.
The sitter of {ref1} comes back to the studio. We take {caption}.
The face in the close-up {ref1} must be found again in {caption}.
The result is a close portrait of {ref1}, more exactly {caption}.
The identity card needs {caption}, and the face is in {ref1}.
For a gallery of portraits of the person in {ref1}, add {caption}.
For a medal with the head of {ref1}, design {caption}.
Another close-up of {ref1}, please: {caption}.
One more studio shot of the face {ref1}: {caption}.
New portrait from the close-up {ref1}: {caption}
Different mood, same sitter {ref1}: {caption}
Give the sitter of {ref1} another expression or hat: {caption}.
Give me a large, clear view of the face in {ref1}, {caption}.
Produce a faithful portrait of {ref1} that shows {caption}.
Stay faithful to the close-up {ref1} and portray {caption}.
Portray {caption}, with {ref1} as the sitter.
Portray the person of {ref1} from the front as {caption}.
Capture {caption}. Features from {ref1}.
Change only mood, hat and clothes in {ref1} to get {caption}.
Dress the sitter of {ref1} anew: {caption}.
Edit nothing about the face in {ref1}, but show {caption}.
Head and shoulders of the person {ref1}, {caption}.
If the sitter of {ref1} posed again, we would get {caption}.
Subject of the portrait: the face in {ref1}. Description: {caption}.
Studio session with {ref1}, picture two: {caption}.
Match the face of {ref1} exactly in a portrait of {caption}.
Upon the close-up {ref1} follows {caption}.
"""

_STYLE_SUBJECT = """
{caption}, with the {subject} from {ref1} and the style of {ref2}
Draw {caption} with the {subject} in {ref1}, in the style of {ref2}.
Generate {caption}. Take the {subject} from {ref1} and the style from {ref2}.
{subject}: {ref1}, style: {ref2}, caption: {caption}
Show the {subject} of {ref1} the way {ref2} is painted: {caption}.
In the style of {ref2}, paint {caption}, and use the {subject} from {ref1}.
I want {caption}. The {subject} should look like {ref1} and the style like {ref2}.
Could you draw my {subject} {ref1} in the manner of {ref2}? The scene: {caption}.
What would the {subject} from {ref1} look like if the artist of {ref2} had painted {caption}?
Keep the {subject} in {ref1} recognisable, apply the style of {ref2}, and show {caption}.
Please create {caption} with the same {subject} as {ref1} and the same style as {ref2}.
{caption}. For the {subject} see {ref1}, for the style see {ref2}.
{ref1} shows the {subject} and {ref2} shows the style. Make {caption}.
Style from {ref2}, {subject} from {ref1}. Prompt: {caption}.
Using {ref2} as a style guide, put the {subject} of {ref1} into this scene: {caption}.
"""

_MULTI_SUBJECT = """
{caption}, with the {subject} from {ref1} and the {subject2} from {ref2}
Draw {caption}, using the {subject} in {ref1} and the {subject2} in {ref2}.
Generate {caption}. Take the {subject} from {ref1} and the {subject2} from {ref2}.
{subject}: {ref1}, {subject2}: {ref2}, caption: {caption}
Bring the {subject} of {ref1} and the {subject2} of {ref2} together in one picture: {caption}.
Put both the {subject} {ref1} and the {subject2} {ref2} into this scene: {caption}.
I want {caption}. You find the {subject} in {ref1}, and {ref2} has the {subject2}.
Could you draw my {subject} {ref1} and my {subject2} {ref2} together? The scene: {caption}.
What would it look like if the {subject} from {ref1} met the {subject2} from {ref2}? Show {caption}.
Let the {subject2} in {ref2} join the {subject} in {ref1}. We see {caption}.
Please create {caption} with the same {subject} as {ref1} and the same {subject2} as {ref2}.
{caption}. For the {subject} see {ref1}, for the {subject2} see {ref2}.
{ref1} shows the {subject} and {ref2} shows the {subject2}. Make {caption}.
Both must stay recognisable, the {subject} of {ref1} and the {subject2} of {ref2}. Paint {caption}.
Two main characters, the {subject} in {ref1} and the {subject2} in {ref2}, one scene: {caption}.
"""

_CONTROL_SUBJECT = """
{caption}, with the {control} {ref1} and the {subject} from {ref2}
Draw {caption}. Follow the {control} in {ref1} and use the {subject} in {ref2}.
Generate {caption} so that it fits the {control} {ref1} and shows the {subject} of {ref2}.
{control}: {ref1}, {subject}: {ref2}, caption: {caption}
Use the {control} in {ref1} for the layout and the {subject} in {ref2} for the looks of {caption}.
Put the {subject} from {ref2} where the {control} {ref1} says. The picture shows {caption}.
I want {caption}, arranged by the {control} in {ref1}, with my {subject} from {ref2}.
Could you fit the {subject} of {ref2} to the {control} {ref1}? It should show {caption}.
What would the {subject} in {ref2} look like with the {control} {ref1}? Draw {caption}.
Let the {control} {ref1} decide the shapes and {ref2} the look of the {subject}: {caption}.
Please create {caption} with the same {subject} as {ref2}, and respect the {control} {ref1}.
{caption}. The {control} is in {ref1}, and {ref2} has the {subject}.
Given the {control} {ref1} and a picture {ref2} of the {subject}, paint {caption}.
Take the {subject} from {ref2}, keep to the {control} in {ref1}, and make {caption}.
Starting from the {control} {ref1}, build {caption} with the {subject} known from {ref2}.
"""

_CONTROL_STYLE = """
{caption}, with the {control} {ref1} and the style of {ref2}
Draw {caption}. Follow the {control} in {ref1} and the style of {ref2}.
Generate {caption} in the style of {ref2} so that it fits the {control} {ref1}.
{control}: {ref1}, style: {ref2}, caption: {caption}
Use the {control} in {ref1} for the layout and the picture {ref2} for the style of {caption}.
In the style of {ref2}, paint {caption}, laid out by the {control} in {ref1}.
I want {caption}, arranged by the {control} {ref1} and painted like {ref2}.
Could you fill in the {control} {ref1} in the manner of {ref2}? It should show {caption}.
What would {caption} look like with the {control} {ref1} and in the style of {ref2}?
Let the {control} {ref1} decide the shapes and {ref2} the brushwork: {caption}.
Please create {caption}. Respect the {control} {ref1} and imitate the style in {ref2}.
{caption}. The {control} is in {ref1}, and the style can be seen in {ref2}.
Given the {control} {ref1} and the style picture {ref2}, make {caption}.
Take the style from {ref2}, keep to the {control} in {ref1}, and show {caption}.
Starting from the {control} {ref1}, illustrate {caption} as the artist of {ref2} would.
"""

TEMPLATE_TEXTS: dict[str, str] = {
    "text": _TEXT,
    "art": _ART,
    "depth": _DEPTH,
    "mask": _MASK,
    "edge": _EDGE,
    "sketch": _SKETCH,
    "subject": _SUBJECT,
    "face": _FACE,
    "face_hq": _FACE_HQ,
    "style": _STYLE,
    "style_transfer": _STYLE_TRANSFER,
    "style_subject": _STYLE_SUBJECT,
    "multi_subject": _MULTI_SUBJECT,
    "control_subject": _CONTROL_SUBJECT,
    "control_style": _CONTROL_STYLE,
}

REFERENCE_TEXTS: dict[str, tuple[str, ...]] = {
    "depth": (
        "depth map",
        "depth",
        "depth image",
        "depth of the scene",
        "near and far",
        "distance map",
        "the depth to follow",
    ),
    "mask": (
        "mask",
        "object mask",
        "silhouette",
        "segmentation mask",
        "shape of the object",
        "foreground mask",
        "where the object goes",
    ),
    "edge": (
        "edge map",
        "edges",
        "contour drawing",
        "contours",
        "outlines",
        "edge image",
        "lines to follow",
    ),
    "sketch": (
        "sketch",
        "rough sketch",
        "hand drawing",
        "pencil sketch",
        "doodle",
        "draft of the picture",
        "my sketch",
    ),
    "subject": (
        "{subject}",
        "the {subject}",
        "photo of the {subject}",
        "picture of the {subject}",
        "my {subject}",
        "the {subject} to use",
        "reference for the {subject}",
    ),
    "style": (
        "style",
        "style image",
        "the style to use",
        "style reference",
        "example of the style",
        "picture in this style",
        "artwork to imitate",
        "{style}",
        "{style} style",
    ),
    "face": (
        "{subject}",
        "the {subject}",
        "photo of the {subject}",
        "portrait of the {subject}",
        "the {subject} to show",
        "reference for the face",
        "who it is",
        "face",
    ),
    "content": (
        "content",
        "content image",
        "the scene to keep",
        "picture to redraw",
        "original picture",
        "what to draw",
        "image to restyle",
    ),
}
"""Texts of one reference by kind: "depth", "mask", "edge", "sketch", "subject", "style", "face", "content"."""
